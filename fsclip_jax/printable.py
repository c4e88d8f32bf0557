r"""How names travel: as they are from file to file, printable wherever a person or a page reads.

A file keeps its name as Python has it, so that it can be opened again: bytes that are no UTF-8 are
lone surrogates, in memory and in the keys of a bank. All other names (of classes, families,
methods, splits, data sets) are made printable where they enter, and paths where they leave: into
tables, pages, notes and errors. So nothing is written that moves a cursor, turns the direction of
writing, hides, or cannot be encoded:

====================================  ================  ==========
what                                  from              is written
====================================  ================  ==========
a control character of ASCII          U+001B            ``\x1b``
a byte that is no UTF-8               U+DCE9            ``\xe9``
others that terminals, XML or         U+202E            ``\u202e``
readers of text stumble over
====================================  ================  ==========
"""

import re
from typing import Any

_UNSEEN = (
    "[\x00-\x1f\x7f-\x9f"  # control characters
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # which turn the direction of writing
    "\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]"  # separators, byte order marks, surrogates
)
_ESCAPE = "x[0-9a-f]{2}|u[0-9a-f]{4}"
_FIND_UNSEEN = re.compile(_UNSEEN)
_FIND_AMBIGUOUS = re.compile(rf"\\+(?={_ESCAPE}|{_UNSEEN})")
_FIND_ESCAPE = re.compile(rf"(\\+)({_ESCAPE})")


def printable(text: str) -> str:
    r"""Write what cannot be printed as escapes; all other text, and its own result, stays as it is.

    Example:
        >>> printable("caf\udce9\r.jpg"), printable("café.jpg")
        ('caf\\xe9\\x0d.jpg', 'café.jpg')
    """
    return _FIND_UNSEEN.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def escaped(name: str) -> str:
    r"""Make a name printable so that ``unescaped`` finds it again.

    As ``printable``, but backslashes before what reads like an escape are doubled.

    Example:
        >>> escaped("a\r.jpg"), escaped(r"a\x0d.jpg"), escaped(r"C:\cats\1.jpg")
        ('a\\x0d.jpg', 'a\\\\x0d.jpg', 'C:\\cats\\1.jpg')
    """
    return printable(_FIND_AMBIGUOUS.sub(lambda found: 2 * found[0], name))


def unescaped(text: str) -> str:
    r"""Undo ``escaped``.

    Example:
        >>> unescaped(escaped("caf\udce9\r.jpg")) == "caf\udce9\r.jpg"
        True
    """
    return _FIND_ESCAPE.sub(_unescape, text)


def _unescape(found: re.Match[str]) -> str:
    slashes, escape = found[1], found[2]
    half = slashes[: len(slashes) // 2]
    if len(slashes) % 2 == 0:
        return half + escape
    code = int(escape[1:], 16)
    return half + chr(code + 0xDC00 if escape[0] == "x" and code >= 0x80 else code)


def inert(cell: str) -> str:
    """Put ``'`` before a cell of a table that a spreadsheet would take for a formula.

    Example:
        >>> inert("=1+1"), inert("cat")
        ("'=1+1", 'cat')
    """
    return f"'{cell}" if cell.lstrip().startswith(("=", "+", "-", "@", "'")) else cell


def printable_tree(value: Any) -> Any:
    """Make every string of a JSON value printable, names of fields too."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable_tree(key): printable_tree(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [printable_tree(item) for item in value]
    return value
