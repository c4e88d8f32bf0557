"""Names of folders for classes, which any file system takes and nobody mistakes."""

import os
import re
import unicodedata
from collections.abc import Iterable

from fsclip_jax.data.folder import is_hidden
from fsclip_jax.printable import printable

UNKNOWN = "_unknown"
"""Where pictures of none of the classes go, unless a class is called so."""

_LONGEST = 180  # bytes; file systems take 255
_REFUSED = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def safe_folder(name: str) -> str:
    """Write the name of a class as the name of a folder.

    What a path or a file system reads otherwise becomes ``_``; nothing is hidden or too long.

    Example:
        >>> safe_folder("AC/DC"), safe_folder(".."), safe_folder("hot dog"), safe_folder("con")
        ('AC_DC', '__', 'hot dog', '_con')
    """
    text = _REFUSED.sub("_", printable(name)).strip(" ")
    text = text.encode()[:_LONGEST].decode(errors="ignore").strip(" ")
    text = re.sub(r"\.+$", lambda dots: "_" * len(dots[0]), text)
    text = re.sub(r"^\.", "_", text)
    return f"_{text}" if not text or is_hidden(text) or _RESERVED.match(text) else text


def class_folders(labels: Iterable[str]) -> dict[str, str]:
    """Return a folder for every label, no two the same on any file system; of "" for unknown.

    Example:
        >>> class_folders(["cat", "Cat", "_unknown"])
        {'cat': 'cat', 'Cat': 'Cat (2)', '_unknown': '_unknown', '': '_unknown (2)'}
    """
    found: dict[str, str] = {}
    taken = Taken()
    for label in (*dict.fromkeys(label for label in labels if label), ""):
        found[label] = taken.take(safe_folder(label) if label else UNKNOWN)
    return found


def alike(name: str) -> str:
    """Return a spelling that is equal for names that a file system may hold for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())


class Taken:
    """Names of a folder that are taken.

    Example:
        >>> taken = Taken(["a.jpg"])
        >>> taken.take("A.jpg", ".jpg"), taken.take("a.jpg", ".jpg"), taken.take("b.jpg", ".jpg")
        ('A (2).jpg', 'a (3).jpg', 'b.jpg')
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = set(map(alike, names))
        self._next: dict[str, int] = {}

    def take(self, name: str, end: str = "") -> str:
        """Take a name, or one with a number before its end where it is taken."""
        stem, wanted, number = name.removesuffix(end), alike(name), 2
        if wanted in self._names:
            number = self._next.get(wanted, 2)
            while alike(name := numbered(stem, number, end)) in self._names:
                number += 1
            self._next[wanted] = number + 1
        self._names.add(alike(name))
        return name


def numbered(stem: str, number: int, end: str) -> str:
    """Write a number into a name, which is cut where it would be too long."""
    end = f" ({number}){end}"
    while len(os.fsencode(stem + end)) > 255:
        stem = stem[:-1]
    return stem + end
