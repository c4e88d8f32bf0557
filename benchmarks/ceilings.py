"""What a device can do at most, as JAX reaches it: one large product, one large copy."""

import time

import jax
import jax.numpy as jnp


def _rate(program, arguments, work):
    """Return a function that times a program for about a tenth of a second: work a second."""

    def run(times):
        start = time.perf_counter()
        for _ in range(times):
            out = program(*arguments)
        jax.block_until_ready(out)
        return time.perf_counter() - start

    run(1)
    times = max(1, min(100, round(0.1 / run(1))))
    return lambda: times * work / run(times)


def product_rate(dtype, size=None):
    """Return a function that times one large product and gives its FLOP/s."""
    size = size or (2048 if jax.default_backend() == "cpu" else 8192)
    x = jax.random.normal(jax.random.key(0), (size, size), dtype)
    return _rate(jax.jit(jnp.matmul).lower(x, x).compile(), (x, x), 2 * size**3)


def copy_rate(size=None):
    """Return a function that times one large copy and gives the bytes a second, both ways."""
    size = size or (2**28 if jax.default_backend() == "cpu" else 2**31)
    x = jnp.zeros(size // 4, jnp.float32)
    return _rate(jax.jit(lambda x: x + 1).lower(x).compile(), (x,), 2 * size)


def floor(flops, moved, product, copy):
    """Return the seconds that arithmetic asks for, and which ceiling asks for more of them."""
    computing, moving = flops / product, moved / copy
    return computing + moving, "matrix" if computing > moving else "memory"
