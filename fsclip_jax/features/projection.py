"""The last projection of an image tower, for banks of features before it."""

from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import numpy as np
from safetensors import SafetensorError, safe_open

from fsclip_jax.errors import UserError
from fsclip_jax.typing import Array, Float

Kept: TypeAlias = Literal["post", "pre"]
"""Which features a bank stores: after the last projection of the image tower, or before it."""

Side: TypeAlias = Literal["after", "before", "raw"]
"""What a bank of features before the projection gives: unit features after it; unit features
before it, without text; or features before it as the tower gives them, for who trains it."""

TENSORS = ("projection", "projection_bias")


class Projection(NamedTuple):
    """``x W + b``, from what the tower pools to the joint space; ``b`` is zero where it has none.

    A vision transformer's is without bias; a ResNet's is the last of its attention pooling.
    """

    kernel: Float[Array | np.ndarray, "before dim"]
    bias: Float[Array | np.ndarray, " dim"]


def apply(projection: Projection, x: Float[np.ndarray, "*n before"]) -> Float[np.ndarray, "*n dim"]:
    """Project on the host; the vectors have any length.

    Example:
        >>> apply(Projection(np.eye(2), np.ones(2)), np.array([[1.0, 2.0]])).tolist()
        [[2.0, 3.0]]
    """
    out: np.ndarray = x.astype(np.float32) @ projection.kernel + projection.bias
    return out


def read_projection(path: Path, before: int, dim: int) -> Projection:
    """Read the projection of a bank from the file of its text.

    Raises:
        UserError: it is not there, has another shape or is not finite.
    """
    try:
        with safe_open(path, "np") as tensors:
            held = set(tensors.keys())
            found = [tensors.get_tensor(name) for name in TENSORS if name in held]
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read {path}: {error}; make the bank anew") from error
    shapes = [list(each.shape) for each in found]
    right = shapes == [[before, dim], [dim]] and all(each.dtype == np.float32 for each in found)
    if not right or not all(np.isfinite(each).all() for each in found):
        raise UserError(
            f"{path} holds no projection from {before} to {dim} values: make the bank anew"
        )
    return Projection(*found)
