"""What a device can do at most, as JAX reaches it: one large product, one large copy."""

import time

import jax
import jax.numpy as jnp


def _rate(run, work):
    """Return a function that times a program for about a tenth of a second: work a second.

    ``run(n)`` does the work n times, and waits.
    """

    def seconds(times):
        start = time.perf_counter()
        run(times)
        return time.perf_counter() - start

    seconds(1)
    times = max(1, min(100, round(0.1 / seconds(1))))
    return lambda: times * work / seconds(times)


def product_rate(dtype, size=None):
    """Return a function that times one large product and gives its FLOP/s."""
    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    x = jax.random.normal(jax.random.key(0), (size, size), dtype)
    multiply = jax.jit(jnp.matmul).lower(x, x).compile()
    return _rate(
        lambda n: jax.block_until_ready([multiply(x, x) for _ in range(n)][-1]), 2 * size**3
    )


def copy_rate(size=None):
    """Return a function that times one copy and gives the bytes a second, both ways.

    ``size`` is of those read and written, large unless given. Each copy takes the place of the
    last: of fresh memory the system has to fill every page first, which took four times as long.
    """
    large = 2**29 if jax.default_backend() == "cpu" else 2**32
    x = jnp.zeros((size or large) // 8, jnp.float32)
    copy, held = jax.jit(lambda x: x + 1, donate_argnums=0).lower(x).compile(), [x]

    def run(times):
        for _ in range(times):
            held[0] = copy(held[0])
        jax.block_until_ready(held)

    return _rate(run, 8 * len(x))


def floor(flops, moved, product, copy):
    """Return the seconds that arithmetic asks for, and which ceiling asks for more of them."""
    computing, moving = flops / product, moved / copy
    return computing + moving, "matrix" if computing > moving else "memory"
