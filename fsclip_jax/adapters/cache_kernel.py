"""The votes of a key-value cache as one Pallas kernel: no affinity leaves the fast memory."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.typing import Array, Float

CountVotes = Callable[[Array, Array, Array, Array], Array]


class Tile(NamedTuple):
    """What one step of the kernel works on.

    Attributes:
        dim: features of a partial product; 0 is all of them.
        shots: shots that one program goes through itself; 0 is all of them. With fewer, the grid
            does, one program after the other.
    """

    query: int
    way: int
    dim: int
    shots: int


TILES = {"cuda": Tile(64, 128, 32, 0), "tpu": Tile(256, 128, 0, 1)}
"""By platform. A GPU's program reads its keys bit by bit and adds the shots up in registers; a
TPU's has one shot of its classes in its memory, while those of the next are on the way."""

LARGE = 2**23
"""Affinities below which there is nothing to gain: the cache of a large GPU holds 32 MB of them."""

_PLATFORMS = {"gpu": "cuda", "tpu": "tpu"}


def kernels(
    queries: int, way: int, shot: int, dim: int, plain: CountVotes
) -> dict[str, CountVotes]:
    """Return the kernel of this process's accelerator by platform, where it pays and works.

    Not where there are several devices: the compiler splits products among them, but no kernel.
    ``plain`` is what the kernel computes, and has its derivatives.
    """
    platform = _PLATFORMS.get(jax.default_backend())
    if platform is None or jax.device_count() > 1 or queries * way * shot < LARGE:
        return {}
    return {platform: differentiable(platform, plain)} if works(platform, shot, dim) else {}


@functools.cache
def works(platform: str, shot: int, dim: int) -> bool:
    """Try the kernel on a small example: a device that refuses it answers as if it were not there.

    Example:
        >>> works("cuda", 2, 8) if jax.default_backend() == "cpu" else False
        False
    """
    rng = np.random.default_rng(0)
    keys = rng.standard_normal((3, shot, dim), np.float32)
    keys /= np.linalg.norm(keys, axis=-1, keepdims=True)
    query, weights = keys[:, 0], np.ones((3, shot), np.float32)
    args = query, keys, weights, np.float32(1)
    try:
        program = jax.jit(functools.partial(fused_votes, platform=platform)).lower(*args).compile()
        found = np.asarray(program(*args))
    except Exception:  # no Pallas, no lowering, no memory for a tile: all the same to who asks
        return False
    expected = np.exp(np.einsum("qd,wsd->qws", query, keys) - 1).sum(-1)
    return np.allclose(found, expected, rtol=2e-2)  # products may be of few digits


def differentiable(platform: str, plain: CountVotes, *, interpret: bool = False) -> CountVotes:
    """Return the kernel with the derivatives of what it computes."""
    fused = functools.partial(fused_votes, platform=platform, interpret=interpret)
    votes = jax.custom_vjp(lambda *args: fused(*args))
    votes.defvjp(
        lambda *args: (fused(*args), args), lambda args, change: jax.vjp(plain, *args)[1](change)
    )
    return votes


def fused_votes(
    query: Float[Array, "query dim"],
    keys: Float[Array, "way shot dim"],
    weights: Float[Array, "way shot"],
    beta: Float[Array, ""],
    *,
    platform: str,
    interpret: bool = False,
) -> Float[Array, "query way"]:
    """Compute ``sum_k w_ck exp(-beta (1 - f . F_ck))`` in one kernel; see `cache.cache_votes`.

    ``platform`` is one of :data:`TILES`; ``interpret`` runs the kernel anywhere, slowly.
    """
    from jax.experimental import pallas as pl

    tile = TILES[platform]
    (queries, _), (way, shot) = query.shape, weights.shape
    query, keys = query.astype(jnp.float32), keys.astype(jnp.float32)
    step = tile.dim or 128
    query = _filled(query, (tile.query, step))
    # Shot by shot, so that the votes of a tile of classes are whole rows.
    keys = _filled(jnp.swapaxes(keys, 0, 1), (1, tile.way, step))
    weights = _filled(weights.astype(jnp.float32).T[:, None], (1, 1, tile.way))
    dim, each = query.shape[1], tile.shots or shot
    body = functools.partial(_count, step=tile.dim or dim, alone=each == shot)
    scalars, params = _of_platform(platform)
    votes = pl.pallas_call(
        body,
        grid=(query.shape[0] // tile.query, keys.shape[1] // tile.way, shot // each),
        in_specs=[
            pl.BlockSpec((1, 1), _at(None, None), memory_space=scalars),
            pl.BlockSpec((tile.query, dim), _at(0, None)),
            pl.BlockSpec((each, tile.way, dim), _at(2, 1, None)),
            pl.BlockSpec((each, 1, tile.way), _at(2, None, 1)),
        ],
        out_specs=pl.BlockSpec((tile.query, tile.way), _at(0, 1)),
        out_shape=jax.ShapeDtypeStruct((query.shape[0], keys.shape[1]), jnp.float32),
        compiler_params=params,
        interpret=interpret,
        name="cache_votes",
    )(beta.astype(jnp.float32)[None, None], query, keys, weights)
    return votes[:queries, :way]


def _count(
    beta: Any, query: Any, keys: Any, weights: Any, votes: Any, *, step: int, alone: bool
) -> None:
    """Add the votes of some shots of a tile of classes for a tile of queries."""
    from jax.experimental import pallas as pl

    sharpness = beta[0, 0]

    def add(shot: Array, so_far: Array) -> Array:
        def multiply(part: Array, similarity: Array) -> Array:
            some = pl.ds(part * step, step)
            return similarity + jax.lax.dot_general(
                query[:, some],
                keys[shot, :, some],
                (((1,), (1,)), ((), ())),
                preferred_element_type=jnp.float32,
            )

        parts = query.shape[1] // step
        similarity = jax.lax.fori_loop(0, parts, multiply, jnp.zeros_like(so_far))
        return so_far + weights[shot] * jnp.exp(-sharpness * (1 - similarity))

    nothing = jnp.zeros(votes.shape, jnp.float32)
    counted = jax.lax.fori_loop(0, keys.shape[0], add, nothing)
    if alone:
        votes[...] = counted
        return

    @pl.when(pl.program_id(2) == 0)
    def _() -> None:
        votes[...] = nothing

    votes[...] += counted


def _at(*axes: int | None) -> Callable[..., tuple[Any, ...]]:
    """Return the place of a block: of which axis of the grid each of its own follows the number."""
    return lambda *grid: tuple(0 if axis is None else grid[axis] for axis in axes)


def _of_platform(platform: str) -> tuple[Any, Any]:
    """Return where scalars lie, and how the kernel is compiled."""
    if platform == "tpu":
        from jax.experimental.pallas import tpu

        order: Any = ("parallel", "parallel", "arbitrary")
        return tpu.SMEM, tpu.CompilerParams(dimension_semantics=order)
    from jax.experimental.pallas import triton

    return None, triton.CompilerParams(num_warps=4, num_stages=3)


def _filled(x: Array, multiples: tuple[int, ...]) -> Array:
    """Fill every axis with zeros up to a multiple."""
    return jnp.pad(x, [(0, -size % of) for size, of in zip(x.shape, multiples, strict=True)])
