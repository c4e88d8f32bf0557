"""What is done to a folder of sorted pictures, written before it is done, to be undone by.

Lines of JSON in ``.fsclip-sorted.jsonl`` in that folder: a head, the folders that are made, and a
line for every picture. A name in the folder is one of a class folder and one of a file; whatever
else a line says is refused, and who reads it trusts it no further than what it finds there.
"""

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from fsclip_jax.data.folder import is_picture
from fsclip_jax.durable import storage_errors, sync_folder
from fsclip_jax.errors import UserError, first_line
from fsclip_jax.pixels import require_regular
from fsclip_jax.printable import escaped, unescaped

NAME = ".fsclip-sorted.jsonl"
MOST_BYTES = 2**30
_LONGEST_LINE = 64 * 1024


class Head(msgspec.Struct, frozen=True, tag_field="is", tag="fsclip sorted"):
    """The first line: the number of the folder in its file system, and how deep it was made."""

    number: int
    made: int


class Folder(msgspec.Struct, frozen=True, tag_field="is", tag="folder"):
    """A class folder that is made."""

    name: str


class Step(msgspec.Struct, frozen=True, tag_field="is", tag="step"):
    """A picture, and where it goes.

    Attributes:
        how: moved, or a link to it made.
        image: its absolute path before.
        to: its path below the folder.
        number: of the file in its file system; with size and time (ns) it tells the file from any
            other that may have its name later.
    """

    how: Literal["move", "link"]
    image: str
    to: str
    number: int
    size: int
    time: int

    def is_at(self, place: Path) -> bool:
        """Say whether it is this very file that lies there."""
        found = status(place)
        if found is None or not stat.S_ISREG(found.st_mode):
            return False
        return (self.number, self.size, self.time) == number_of(found)


class Journal(NamedTuple):
    """What a journal says; ``whole`` bytes of it are lines that end."""

    head: Head
    folders: tuple[str, ...]
    steps: tuple[Step, ...]
    whole: int


def status(place: Path) -> os.stat_result | None:
    """What lies at a place, links not followed; None where nothing does."""
    try:
        return place.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None


def number_of(found: os.stat_result) -> tuple[int, int, int]:
    """What tells a file from others: its number in the file system, size and time."""
    return found.st_ino, found.st_size, found.st_mtime_ns


def read_journal(folder: Path) -> Journal | None:
    """Read the journal of a folder; None where there is none.

    A last line without an end was never acted upon, and is left out.

    Raises:
        UserError: it is no journal of this folder, is spoilt, or cannot be read.
    """
    place = folder / NAME
    found = status(place)
    if found is None or not found.st_size:
        return None
    try:
        if stat.S_ISLNK(found.st_mode):
            raise ValueError("it is a link")
        require_regular(place)
        if found.st_size > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
        journal = _parsed(place)
    except (ValueError, OSError) as error:
        raise UserError(
            f"{place} is spoilt ({first_line(error)}): nothing is moved by it; mend it or remove it"
        ) from error
    if journal and journal.head.number != folder.stat().st_ino:
        raise UserError(
            f"{place} was written for another folder, which was copied here: nothing is moved by it"
        )
    return journal


def _parsed(place: Path) -> Journal | None:
    decode = msgspec.json.Decoder(Head | Folder | Step).decode
    head, folders, steps, whole = None, [], [], 0
    with place.open("rb") as file:
        for number, line in enumerate(_lines(file), 1):
            try:
                entry = decode(line)
                if isinstance(entry, Head) != (head is None):
                    raise ValueError("the head is missing, or is not the first line")
                if isinstance(entry, Head):
                    head = entry
                elif isinstance(entry, Folder):
                    folders.append(_part(entry.name))
                else:
                    steps.append(_checked(entry))
            except (ValueError, RecursionError) as error:
                raise ValueError(f"line {number}: {first_line(error)}") from error
            whole += len(line)
    return None if head is None else Journal(head, tuple(folders), tuple(steps), whole)


def _lines(file: Iterator[bytes]) -> Iterator[bytes]:
    while line := file.readline(_LONGEST_LINE):  # type: ignore[attr-defined]
        if line.endswith(b"\n"):
            yield line
        elif len(line) == _LONGEST_LINE:
            raise ValueError("a line is too long")


def _part(text: str) -> str:
    """One name of a path."""
    name = unescaped(text)
    if name in ("", ".", "..") or any(letter in name for letter in ("/", "\0", os.sep)):
        raise ValueError("a name that is none")
    return name


def _checked(step: Step) -> Step:
    folder, slash, name = step.to.rpartition("/")
    to, image = f"{_part(folder)}{slash}{_part(name)}", unescaped(step.image)
    if "\0" in image or not os.path.isabs(image) or os.path.normpath(image) != image:
        raise ValueError("a picture without an absolute path")
    if not (is_picture(image) and is_picture(to)):
        raise ValueError("a file that is no picture")
    return msgspec.structs.replace(step, image=image, to=to)


class Writer:
    """Appends to the journal of a folder; a line is on the disk before ``write`` returns.

    Args:
        journal: what is there already.
        made: see ``Head``.

    Raises:
        UserError: it cannot be written.
    """

    def __init__(self, folder: Path, journal: Journal | None, made: int) -> None:
        self._place = folder / NAME
        with storage_errors(self._place):
            if journal is not None:
                os.truncate(self._place, journal.whole)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if journal else os.O_TRUNC)
            self._file = os.open(self._place, flags | getattr(os, "O_NOFOLLOW", 0), 0o644)
        if journal is None:
            self.write([Head(folder.stat().st_ino, made)])
            sync_folder(folder)

    def write(self, entries: Sequence[Head | Folder | Step]) -> None:
        """Write lines and flush them."""
        left = memoryview(b"".join(map(line_of, entries)))
        with storage_errors(self._place):
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)

    def __enter__(self) -> "Writer":
        """Return the journal."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        os.close(self._file)


def line_of(entry: Head | Folder | Step) -> bytes:
    """Write an entry as a line, its names so that they can be read."""
    if isinstance(entry, Folder):
        entry = Folder(escaped(entry.name))
    elif isinstance(entry, Step):
        names = {"image": escaped(entry.image), "to": escaped(entry.to)}
        entry = msgspec.structs.replace(entry, **names)
    return msgspec.json.encode(entry) + b"\n"
