"""Compiled functions, kept for the next call of equal shapes, and the time they take."""

import functools
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp

from fsclip_jax.devices import device_of_thread
from fsclip_jax.kept_programs import compile_kept
from fsclip_jax.typing import Array, PRNGKeyArray


class Engine:
    """Compiles every function once for the same name and shapes, and times it without compiling.

    Methods that differ in parameters only, and numbers of shots that do not change the shape of
    what was fitted, share one compile.

    Args:
        most: programs to keep, those used last; None keeps all.
        traced: see :func:`compile_kept`: the next process need not trace them.
    """

    def __init__(self, most: int | None = None, *, traced: bool = False) -> None:
        self._compiled: OrderedDict[Hashable, Callable[..., Any]] = OrderedDict()
        self._most, self._traced = most, traced

    @property
    def programs(self) -> int:
        """How many are compiled."""
        return len(self._compiled)

    def run(self, name: Hashable, function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
        """Run a pure function; return what it returns, and the seconds it ran, without compiling.

        Args:
            name: what the function is, all that it closes over included. It is compiled where
                neither name nor shapes of the arguments were seen before.
        """
        args = _on_own_device(args)  # before the clock starts
        program = self.program(name, function, *args)
        jax.block_until_ready(args)
        start = time.perf_counter()
        out = jax.block_until_ready(program(*args))
        return out, time.perf_counter() - start

    def program(
        self, name: Hashable, function: Callable[..., Any], *args: Any
    ) -> Callable[..., Any]:
        """Return the function compiled for such arguments: who calls it need not wait for it."""
        device, args = device_of_thread(), _on_own_device(args)
        leaves, tree = jax.tree.flatten(args)
        shapes = tuple((jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
        place = name, tree, shapes, device
        program = self._compiled.pop(place, None)
        if program is None and self._traced:
            program = compile_kept(name, function, *args)
        elif program is None:
            program = jax.jit(function).lower(*args).compile()
        self._compiled[place] = program
        if self._most is not None and len(self._compiled) > self._most:
            self._compiled.popitem(last=False)
        return program


def _on_own_device(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Put arguments where the thread computes, if `over_devices` gave it a device."""
    device = device_of_thread()
    return args if device is None else jax.device_put(args, device)


@functools.cache
def process_engine() -> Engine:
    """Return the engine that all classifiers of a process share: a second fit compiles nothing."""
    return Engine(most=64, traced=True)


def fit_key(draw: Array | int) -> PRNGKeyArray:
    """Return the key that a method is fitted to a draw with: the same in search and prediction."""
    return jax.random.fold_in(jax.random.key(0), draw)
