"""Writing that survives a crash: a file or a folder is whole, or it is not there."""

import errno
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from fsclip_jax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows: two extractions into one folder are not kept apart there
    fcntl = None  # type: ignore[assignment]

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""What an operating system says where there is no room."""


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system refuses (full disk, no permission) into a ``UserError``.

    Raises:
        UserError: instead of any ``OSError`` of the block.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise UserError(
                f"no space left to write {path}: free some space or choose another place, "
                "then run the same command again"
            ) from error
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def sync_folder(path: Path) -> None:
    """Flush the names a folder holds, so that a rename outlives a power cut."""
    if os.name == "nt":  # Windows cannot open a folder to flush it
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_file(path: Path, data: bytes) -> str:
    """Write a file under a temporary name, flush it, rename it.

    Args:
        path: the final name; an older file of this name is replaced in one step.

    Raises:
        UserError: the disk is full or the place cannot be written. The old file is untouched.
    """
    with whole_file(path) as stream:
        stream.write(data)
    return hashlib.sha256(data).hexdigest()


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file under a temporary name; behind the block it is flushed and renamed.

    Raises:
        UserError: the disk is full or the place cannot be written. The old file is untouched.
    """
    temporary = path.with_name(path.name + ".tmp")
    with storage_errors(path):
        try:
            with temporary.open("wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def publish_folder(partial: Path, final: Path) -> None:
    """Give a finished folder its final name; its files must have been flushed."""
    with storage_errors(final):
        sync_folder(partial)
        if final.is_dir():
            final.rmdir()  # refuses a folder that holds anything
        partial.rename(final)
        sync_folder(final.parent)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Make a folder under a temporary name beside its place; rename it when all is written.

    Yields:
        The folder to write into. It is removed if the block fails.

    Raises:
        UserError: there is something at that place, or it cannot be written.
    """
    out = out.absolute()
    if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already: choose another --out, or remove it")
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    with storage_errors(out):
        partial.mkdir(parents=True)
    try:
        yield partial
        publish_folder(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def continued_folder(out: Path, work: str) -> Iterator[Path]:
    """As ``new_folder``, but what a block that failed has written stays for the next one.

    Raises:
        UserError: there is something at that place, it cannot be written, or another process does
            the same there.
    """
    out = out.absolute()
    with only_writer(out.parent, f".{out.name}.lock", f"{work} {out.name}", "--out"):
        if os.path.lexists(out) and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} exists already: choose another --out, or remove it")
        partial = out.with_name(f".{out.name}.partial")
        with storage_errors(out):
            partial.mkdir(exist_ok=True)
        yield partial
        publish_folder(partial, out)


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; another one that wants it waits, and says so.

    The operating system lets go when the process ends, however it ends.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process that writes {folder}", file=sys.stderr)
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def only_writer(folder: Path, name: str, work: str, remedy: str) -> Iterator[None]:
    """Hold a folder for one kind of work, and make it if it is missing; a second one is refused.

    The operating system lets go when the process ends, however it ends: a file that a killed one
    leaves behind holds nobody up.

    Args:
        name: of the file in it that is locked, and removed in the end.

    Raises:
        UserError: another process does the same there, or the folder cannot be made.
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    while True:
        with storage_errors(folder):
            handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(handle, 20).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            raise UserError(
                f"another run (process {owner}) {work} in {folder}; "
                f"wait for it, or give another {remedy}"
            ) from None
        if os.fstat(handle).st_nlink:
            break
        os.close(handle)  # its owner removed it between the two calls: it locks nothing
    try:
        with storage_errors(folder):
            os.ftruncate(handle, 0)
            os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        with suppress(OSError):  # Windows removes no file that is open
            (folder / name).unlink()
        os.close(handle)


def sha256_file(path: Path) -> str:
    """Return the sha256 of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all, and make its folder if it is missing.

    Raises:
        UserError: the disk is full or the folder cannot be written to. The former content of
            the file is then still there.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON; the file is whole or absent."""
    write_file(path, json.dumps(value, separators=(",", ":")).encode() + b"\n")
