"""A disk that is full from the n-th time on that something is written below a folder.

What is counted is what Python asks of the operating system: files that are made or written,
folders that are made. Removing and renaming need no room. What libraries write in C++ or Rust past
Python is seen only where they open files by Python.
"""

import builtins
import errno
import io
import os
from contextlib import contextmanager

_MAKES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Disk:
    """Counts what asks for room; `full` says if some was refused."""

    def __init__(self, folder, room):
        self.folder, self.room = os.path.realpath(folder), room
        self.asked = 0
        self.refused = []

    @property
    def full(self):
        return bool(self.refused)

    def take(self, path):
        """Take room for one more, or refuse."""
        if not self.holds(path):
            return
        self.asked += 1
        if self.asked > self.room:
            self.refused.append(str(path))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def holds(self, path):
        if not isinstance(path, str | os.PathLike):
            return False
        return os.path.realpath(os.fspath(path)).startswith(self.folder + os.sep)


class _Raw(io.FileIO):
    """A file whose every write asks for room."""

    disk = None

    def write(self, data):
        self.disk.take(self.name)
        return super().write(data)


def _opener(disk, original):
    def opened(file, mode="r", buffering=-1, *rest, **options):
        if not set(mode) & set("wxa+") or not disk.holds(file):
            return original(file, mode, buffering, *rest, **options)
        if set(mode) & set("wxa"):
            disk.take(file)
        binary = mode.replace("t", "").replace("b", "")
        raw = _Raw(file, binary, opener=options.pop("opener", None))
        raw.disk = disk
        if buffering == 0:
            return raw
        stream = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return stream
        return io.TextIOWrapper(stream, *rest, **options)

    return opened


def _asking(disk, original):
    """The same function of a path or an open file, which asks for room first."""

    def asked(where, *words, **options):
        disk.take(_path_of(where) if isinstance(where, int) else where)
        return original(where, *words, **options)

    return asked


def _path_of(handle):
    try:
        path = os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return None
    return None if os.path.isdir(path) else path


@contextmanager
def full_disk(folder, room):
    """Let the disk be full below a folder once so many have asked for room; yields the `Disk`."""
    disk = Disk(folder, room)
    opens, writes, syncs, makes, opened = os.open, os.write, os.fsync, os.mkdir, io.open

    def os_open(path, flags, *rest, **options):
        if flags & _MAKES and not os.path.isdir(path):
            disk.take(path)
        return opens(path, flags, *rest, **options)

    os.open, os.mkdir = os_open, _asking(disk, makes)
    os.write, os.fsync = _asking(disk, writes), _asking(disk, syncs)
    io.open = builtins.open = _opener(disk, opened)
    try:
        yield disk
    finally:
        os.open, os.write, os.fsync, os.mkdir = opens, writes, syncs, makes
        io.open = builtins.open = opened
