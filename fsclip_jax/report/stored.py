"""Dataclasses as the text of a JSON file, and back."""

import dataclasses
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fsclip_jax.errors import UserError
from fsclip_jax.json_files import parse_json
from fsclip_jax.pixels import require_regular
from fsclip_jax.printable import printable, printable_tree

SCHEMA = 2
"""Version of the format that is written; 1 is read as well."""

Stored = TypeVar("Stored")


def as_json(thing: Any, leave_out: Sequence[str] = ()) -> str:
    """Return indented JSON of a dataclass under its schema, a list of numbers on one line."""
    tree = {"schema": SCHEMA, **_plain(dataclasses.asdict(thing))}
    for name in leave_out:
        del tree[name]
    text = json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False)
    # A line break is never inside a string, so no name of a class is taken for a list.
    flat = re.compile(r"\[\n\s*(-?[\d.eE+-]+(?:,\n\s+-?[\d.eE+-]+)*)\n\s*\]")
    return flat.sub(lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text) + "\n"


def _plain(value: Any) -> Any:
    """The value as JSON, floats rounded, names printable; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {printable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return printable(value) if isinstance(value, str) else value


def from_json(
    text: str,
    where: str,
    what: type[Stored],
    holds: Sequence[str],
    lift: Callable[[dict[str, Any]], dict[str, Any]],
) -> Stored:
    """Read a dataclass; no number of JSON is infinite or ``nan``.

    Args:
        holds: names without which it is another kind of file.
        lift: from the tree of schema 1 to that of schema 2.

    Raises:
        UserError: one line that says what is wrong and where.
    """
    try:
        tree = printable_tree(parse_json(text, msgspec.json.decode))
        if not isinstance(tree, dict) or not set(holds) <= tree.keys():
            raise ValueError(f"it has no {' and '.join(holds)}")
        if tree.get("schema") not in (1, SCHEMA):
            raise ValueError(f"its schema is {tree.get('schema')!r}, this version reads 1 and 2")
        return msgspec.convert(lift(tree) if tree["schema"] == 1 else tree, what)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{where} cannot be read ({reason}): run the command that wrote it again"
        ) from None


def read_text(path: Path, name: str, writer: str) -> tuple[Path, str]:
    """Read a text file, given it or the folder that holds it.

    Args:
        writer: the command that writes it, for the error message.

    Raises:
        UserError: there is no such file, or it is no text.
    """
    file = path / name if path.is_dir() else path
    try:
        require_regular(file)
        return file, file.read_text("utf-8")
    except FileNotFoundError:
        raise UserError(
            f"no {file.stem} at {file}: give the {name} that {writer} wrote, or its folder"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from None
