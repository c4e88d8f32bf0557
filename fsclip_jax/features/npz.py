"""Read a NumPy ``.npz`` that nobody vouches for: what it announces is held against its bytes."""

import math
import warnings
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from fsclip_jax.errors import UserError, first_line

MOST_TIMES, MOST_SPARE = 100, 2**28
"""What is unpacked is at most so many times as long as the file, and so many bytes more."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_KINDS = "biufcUS"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(source: Path, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Read the arrays that are wanted; another one is named, and empty.

    Raises:
        UserError: it is no ``.npz``, is damaged, announces more than it holds, or holds an array
            of anything but numbers and strings.
    """
    if not zipfile.is_zipfile(source):
        raise UserError(f"{source} is not a NumPy .npz, or it is cut short; write it by np.savez")
    try:
        with zipfile.ZipFile(source) as archive:
            entries = archive.infolist()
            names = [entry.filename.removesuffix(".npy") for entry in entries]
            if len(set(names)) < len(names):
                raise ValueError("it holds two arrays of one name")
            named = dict(zip(names, entries, strict=True))
            length, limit = source.stat().st_size, MOST_SPARE
            unpacked = sum(named[name].file_size for name in named if name in wanted)
            limit += MOST_TIMES * length
            if unpacked > limit:
                raise ValueError(
                    f"it unpacks to {unpacked} bytes, and of its {length} at most {limit} are "
                    "taken; save it by np.savez, without compression"
                )
            return {
                name: _read_array(archive, entry) if name in wanted else np.zeros(0)
                for name, entry in named.items()
            }
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    except Exception as error:  # zipfile, zlib and the reader of headers raise many kinds
        raise UserError(f"{source} cannot be read: {first_line(error)[:300]}") from error


def _read_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    name = entry.filename.removesuffix(".npy")
    if entry.compress_type not in _METHODS:
        raise UserError(f"{name} is compressed in a way that NumPy does not write")
    with archive.open(entry) as file:
        version = npy.read_magic(file)
        if version not in _HEADERS:
            raise UserError(f"{name} is in version {version} of NumPy's format; save it anew")
        with warnings.catch_warnings():  # of what Python 2 wrote, which is read all the same
            warnings.simplefilter("ignore")
            shape, columns_first, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise UserError(
                f"{name} is an array of Python objects, which is never unpickled: "
                "save numbers, and strings as np.array(names, dtype=str)"
            )
        if dtype.kind not in _KINDS or not dtype.itemsize:
            raise UserError(f"{name} has type {str(dtype)[:60]}; give numbers or strings")
        there = entry.file_size - file.tell()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != there:
            raise UserError(
                f"{name} announces the shape {list(shape)[:8]} of {dtype}, and {there} bytes "
                "follow; it is damaged"
            )
        content = file.read()
    array = np.frombuffer(content, dtype)
    return array.reshape(shape, order="F" if columns_first else "C")
