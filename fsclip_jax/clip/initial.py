"""How weights start out, and how only their shapes are asked for."""

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx

from fsclip_jax.typing import Array


class ShapesOnly(nnx.Rngs):
    """Stands for the keys of a tower of which only the shapes are wanted, and has one key.

    Counting keys while shapes are traced is quadratic in the layers: half a minute for a ViT-B.
    """

    @property
    def params(self) -> Callable[[], Array]:
        """Hand out the one key."""
        return lambda: jax.random.key(0)


def drawn(initializer: Callable[..., Array], rngs: nnx.Rngs) -> Callable[..., Array]:
    """Return how weights are drawn: zeros for shapes, as random numbers are slow to trace.

    Example:
        >>> key, shape = ShapesOnly().params(), (2,)
        >>> drawn(nnx.initializers.normal(), ShapesOnly())(key, shape).tolist()
        [0.0, 0.0]
    """
    if isinstance(rngs, ShapesOnly):
        zeros: Callable[..., Any] = nnx.initializers.zeros_init()
        return zeros
    return initializer
