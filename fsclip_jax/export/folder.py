"""A new folder that is whole, or not there."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fsclip_jax.durable import publish_folder, sha256_file, storage_errors, write_file
from fsclip_jax.errors import UserError


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Make a folder under a temporary name beside its place; rename it when all is written.

    Args:
        out: the place, at which nothing may be.

    Yields:
        The folder to write into. It is removed if the block fails.

    Raises:
        UserError: there is something at that place, or it cannot be written.
    """
    if os.path.lexists(out):
        raise UserError(f"{out} exists already: choose another --out, or remove it")
    partial = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}.partial")
    with storage_errors(out):
        partial.mkdir(parents=True)
    try:
        yield partial
        publish_folder(partial, out.absolute())
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files, flushed to the disk.

    Args:
        folder: where they go.
        files: content by name.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    for name, content in files.items():
        write_file(folder / name, content)


def sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of a folder by its name, in the order of the names."""
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}
