"""Encoding some images at a time on the CPU, so that what lies between two products stays near.

A whole batch fills memory with maps that outgrow every cache, and everything between the products
then waits for memory. An accelerator takes the batch at once.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
from jax import lax

from fsclip_jax.typing import Array, Float

Tree = TypeVar("Tree")

HIDDEN_BYTES = 40 * 2**20
"""Most that the hidden vectors of a transformer's perceptron take, in float32: 64 images of
ViT-B/32, 16 of ViT-B/16, 8 of ViT-L/14 (docs/speed.md)."""


def in_pieces(
    encode: Callable[[Array], Tree], pixels: Float[Array, "batch height width 3"], piece: int
) -> Tree:
    """Run a function on ``piece`` images at a time, one lot after the other.

    All go together where that is 0, or does not divide their number.

    Example:
        >>> import jax.numpy as jnp
        >>> in_pieces(lambda x: x.sum((1, 2, 3)), jnp.ones((6, 2, 2, 3)), 3).tolist()
        [12.0, 12.0, 12.0, 12.0, 12.0, 12.0]
    """
    count = pixels.shape[0]
    known = isinstance(count, int)  # an exported program may leave the batch open
    if not piece or not known or count <= piece or count % piece:
        return encode(pixels)
    found = lax.map(encode, pixels.reshape(-1, piece, *pixels.shape[1:]))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)


def require_size(pixels: Float[Array, "batch height width 3"], size: int) -> None:
    """Raise a ``ValueError`` at images that are not of the size that a tower takes."""
    if pixels.shape[1:3] != (size, size):
        raise ValueError(f"images are {pixels.shape[1:3]}, the tower takes {(size, size)}")


def transformer_piece(length: int, mlp_width: int) -> int:
    """Return how many images a transformer takes at a time on this kind of device; 0 means all.

    Example:
        >>> transformer_piece(197, 3072), transformer_piece(257, 4096)
        (16, 8)
    """
    return power_of_two(max(1, HIDDEN_BYTES // (4 * length * mlp_width)))


def power_of_two(most: int) -> int:
    """Round down to a power of two on the CPU; 0, which means all, elsewhere."""
    return 0 if jax.default_backend() != "cpu" else 1 << (most.bit_length() - 1)
