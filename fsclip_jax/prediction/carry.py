"""One file to another place: never over another file, across file systems, undone by a kill.

A file is linked to its new place, which fails where something lies there, and only then removed
from its old one: at any moment it is in one of the two or in both, whole.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES}


def part_name(number: int) -> str:
    """Name of a copy that is not whole yet."""
    return f".fsclip-{number}.part"


def put(file: Path, place: Path, part: Path, ready: Callable[[Path], None]) -> None:
    """Give a file a second place; where a file system has no links it is moved at once.

    Args:
        part: where a copy grows, in the file system of ``place``.
        ready: told that ``part`` is whole and about to go to the place, of another file system.

    Raises:
        OSError: something lies there (``FileExistsError``), or it cannot be written.
    """
    try:
        _link(file, place)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        part.unlink(missing_ok=True)
        try:
            _copy(file, part)
            ready(part)
            _link(part, place)
        finally:
            part.unlink(missing_ok=True)


def _link(file: Path, place: Path) -> None:
    try:
        os.link(file, place, follow_symlinks=False)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LINKS:
            raise
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL))  # nobody else's from now on
        try:
            os.replace(file, place)
        except OSError:
            place.unlink(missing_ok=True)
            raise


def _copy(file: Path, part: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    with file.open("rb") as source, open(os.open(part, flags, 0o600), "wb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
        copy.flush()
        with contextlib.suppress(OSError):  # a file system may not keep all that another has
            shutil.copystat(file, part)
        os.fsync(copy.fileno())
