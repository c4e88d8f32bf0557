"""Tensors of the files of a bank, and lengths of vectors."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from fsclip_jax.errors import UserError


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
