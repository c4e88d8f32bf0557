"""A user's JSON files, read as the types that they should have."""

import codecs
from pathlib import Path
from typing import Any

import msgspec

from fsclip_jax.errors import UserError, first_line
from fsclip_jax.pixels import require_regular


def read_layout(path: Path, layout: Any, what: str, expected: str) -> Any:
    """Read a file as msgspec reads a type; nothing in it is trusted.

    Raises:
        UserError: the file is missing, no JSON, or has another layout; the place is named.
    """
    try:
        require_regular(path)
        return msgspec.json.decode(path.read_bytes().removeprefix(codecs.BOM_UTF8), type=layout)
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
