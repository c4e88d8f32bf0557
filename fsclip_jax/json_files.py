"""A user's JSON files: how deep and how long they may be, and as which types they are read."""

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from fsclip_jax.errors import UserError, first_line
from fsclip_jax.pixels import require_regular

DEEPEST = 100
"""Brackets within brackets that are read; no file of ours has ten."""
MOST_BYTES = 4 * 2**30
"""Bytes of a file of boxes, splits or prompts that are read: LVIS has 1.1e9."""
MOST_SETTINGS = 256 * 2**20
"""Bytes of a file of settings that are read."""


def parse_json(text: str | bytes, decode: Callable[[Any], Any] = json.loads) -> Any:
    """Decode JSON of unknown layout, which nothing that recurses over it can stumble at.

    Raises:
        ValueError: it is no JSON, or nested too deeply.

    Example:
        >>> parse_json('{"a": [1]}')
        {'a': [1]}
    """
    deep = f"its brackets are nested more than {DEEPEST} deep"
    try:
        tree = decode(text)
    except RecursionError as error:
        raise ValueError(deep) from error
    level = [tree] if isinstance(tree, dict | list) else []
    for _ in range(DEEPEST + 1):
        inner = [value.values() if isinstance(value, dict) else value for value in level]
        level = [one for some in inner for one in some if isinstance(one, dict | list)]
        if not level:
            return tree
    raise ValueError(deep)


def read_bytes(path: Path, most: int = MOST_SETTINGS) -> bytes:
    """Read a whole file.

    Raises:
        OSError: it is no regular file, or cannot be read.
        ValueError: it is longer than what is read.
    """
    require_regular(path)
    size = path.stat().st_size
    if size > most:
        raise ValueError(f"it has {size} bytes, of which at most {most} are read")
    return path.read_bytes().removeprefix(codecs.BOM_UTF8)


def read_json(path: Path) -> Any:
    """Read a file of settings.

    Raises:
        OSError: it is no regular file, or cannot be read.
        ValueError: it is no JSON, too long or nested too deeply.
    """
    return parse_json(read_bytes(path))


def read_layout(path: Path, layout: Any, what: str, expected: str) -> Any:
    """Read a file as msgspec reads a type; nothing in it is trusted.

    Raises:
        UserError: the file is missing, no JSON, or has another layout; the place is named.
    """
    try:
        return msgspec.json.decode(read_bytes(path, MOST_BYTES), type=layout)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}; give an existing {what}"
        ) from error
    except msgspec.ValidationError as error:
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= 200 else f"{reason[:100]} ... {reason[-95:]}"
        raise UserError(f"{path} is no {what}: {reason}; expected is {expected}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path} is no JSON ({first_line(error)}); make or download it again"
        ) from error
