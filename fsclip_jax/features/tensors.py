"""Tensors of the files of a bank, whole or some rows of them, and lengths of vectors."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from fsclip_jax.errors import UserError

_TYPES = {"F16": np.float16, "F32": np.float32}
_FEW = 8
"""A shard of which less than one in so many images is wanted is not read whole."""


def lengths(vectors: np.ndarray) -> np.ndarray:
    """Return Euclidean lengths with the axis kept; no warning where they are not finite.

    Example:
        >>> lengths(np.array([[3.0, 4.0], [np.inf, 0.0]])).tolist()
        [[5.0], [inf]]
    """
    with np.errstate(over="ignore", invalid="ignore"):
        found: np.ndarray = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return found


def read_shard(path: Path, name: str) -> np.ndarray:
    """Read one tensor of a shard.

    Raises:
        UserError: it is not there, or the file cannot be read.
    """
    tensor = read_tensor(path, name)
    if tensor is None:
        raise UserError(f"the shard {path} holds no {name}: make the bank anew")
    return tensor


def read_tensor(path: Path, name: str) -> np.ndarray | None:
    """Read one tensor of a file of a bank; None where the file holds none of that name.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        with safe_open(path, "np") as tensors:
            return tensors.get_tensor(name) if name in set(tensors.keys()) else None
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}: {error}; make the bank anew") from error


def read_images(path: Path, name: str, rows: np.ndarray) -> np.ndarray:
    """Read some images of a float tensor [V n D] of a shard; few of many are read alone.

    Raises:
        UserError: it is not there, or the file cannot be read.
    """
    try:
        mapped = _map_tensor(path, name)
        if len(rows) * _FEW > mapped.shape[1]:
            return read_shard(path, name)[:, rows]
        return np.asarray(mapped[:, rows])
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"cannot read {path}: {error}; make the bank anew") from error


def _map_tensor(path: Path, name: str) -> np.ndarray:
    """Map a tensor of a file that was checked before: what is read of it is in memory alone.

    Who maps it lets go of it soon: until then the pages that were read count as its memory.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= path.stat().st_size:
            raise ValueError("its header is longer than the file")
        header = json.loads(file.read(length))
    try:
        entry = header[name]
        kind, shape, begin = _TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"][0]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"it holds no {name} that can be read") from error
    return np.memmap(path, kind, "r", offset=8 + length + begin, shape=tuple(shape))
