"""Compiled functions, kept for the next call of equal shapes, and the time they take."""

import time
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp

from fsclip_jax.typing import Array, PRNGKeyArray


class Engine:
    """Compiles every function once for the same name and shapes, and times it without compiling.

    Methods that differ in parameters only, and numbers of shots that do not change the shape of
    what was fitted, share one compile.
    """

    def __init__(self) -> None:
        self._compiled: dict[Hashable, Callable[..., Any]] = {}

    def run(self, name: Hashable, function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
        """Run a pure function; return what it returns, and the seconds it ran, without compiling.

        Args:
            name: what the function is, all that it closes over included. It is compiled where
                neither name nor shapes of the arguments were seen before.
        """
        leaves, tree = jax.tree.flatten(args)
        place = name, tree, tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
        if place not in self._compiled:
            self._compiled[place] = jax.jit(function).lower(*args).compile()
        jax.block_until_ready(args)
        start = time.perf_counter()
        out = jax.block_until_ready(self._compiled[place](*args))
        return out, time.perf_counter() - start


def fit_key(draw: Array | int) -> PRNGKeyArray:
    """Return the key that a method is fitted to a draw with: the same in search and prediction."""
    return jax.random.fold_in(jax.random.key(0), draw)
