"""Low-rank matrices beside the attention projections of a frozen tower.

A projection ``y = W x + b`` becomes ``y = W x + b + g B A x``, with ``A`` [rank in] and ``B``
[out rank]. The towers know nothing of it: their weights are merged, or their projections wrapped.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx

from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.weights import leaf_paths
from fsclip_jax.typing import Array, Bool, Float, Params, PRNGKeyArray, UInt8

ADAPTED = ("q_proj", "k_proj", "v_proj")
"""The projections that get matrices, in every attention of a tower: the blocks of a transformer,
or the attention pooling of a ResNet, which has no other."""

Lora: TypeAlias = dict[str, dict[str, Array]]
"""``A`` and ``B`` of every adapted projection, by its dotted path in the tower."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FrozenImages:
    """An image tower as a pytree, with what makes its input of pixels; see ``text.FrozenText``.

    Example:
        >>> from fsclip_jax.clip.config import VitConfig
        >>> from fsclip_jax.clip.vit import VisionTransformer
        >>> tower = VisionTransformer(VitConfig(8, 4, 12, 1, 2, 16, embed_dim=8), rngs=nnx.Rngs(0))
        >>> frozen = FrozenImages.of(tower, Preprocess(8))
        >>> frozen.build()(frozen.images(jnp.zeros((2, 192)))).shape
        (2, 8)
    """

    graphdef: nnx.GraphDef = field(metadata={"static": True}, repr=False)
    preprocess: Preprocess = field(metadata={"static": True})
    state: Params = field(repr=False)

    @classmethod
    def of(cls, tower: nnx.Module, preprocess: Preprocess) -> "FrozenImages":
        """Freeze a tower."""
        graphdef, state = nnx.split(tower)
        return cls(graphdef, preprocess, state)

    def build(self) -> Any:
        """Return the tower as a module, to be called."""
        return nnx.merge(self.graphdef, self.state)

    def images(
        self, pixels: Float[Array, "n values"] | UInt8[Array, "n values"]
    ) -> Float[Array, "n size size 3"]:
        """Lay flat pixels, 0 to 255, out as normalised images."""
        size = self.preprocess.size
        return self.preprocess.normalize(pixels.reshape(-1, size, size, 3))


def init_lora(key: PRNGKeyArray, state: Params, rank: int) -> Lora:
    """Return the matrices of a tower before training: ``B`` is zero, so that nothing changes.

    ``A`` is uniform within ``1 / sqrt(in)``, as PyTorch's linear layers start.

    Example:
        >>> from fsclip_jax.clip.config import TextConfig
        >>> from fsclip_jax.clip.text import TextTower
        >>> tower = TextTower(TextConfig(32, 8, 16, 1, 2, 32, embed_dim=4), rngs=nnx.Rngs(0))
        >>> lora = init_lora(jax.random.key(0), nnx.state(tower), rank=2)
        >>> lora["blocks.0.attention.q_proj"]["A"].shape
        (2, 16)
    """
    shapes = {path: leaf.shape for path, leaf in leaf_paths(state).items()}
    adapted = [p.removesuffix(".kernel") for p in shapes if _is_adapted(p)]
    keys = jax.random.split(key, max(1, len(adapted)))
    made = {}
    for own, path in zip(keys, adapted, strict=False):
        width, out = shapes[f"{path}.kernel"]
        a = jax.random.uniform(own, (rank, width), jnp.float32, -(width**-0.5), width**-0.5)
        made[path] = {"A": a, "B": jnp.zeros((out, rank), jnp.float32)}
    return made


def _is_adapted(path: str) -> bool:
    *_, layer, leaf = ["", *path.split(".")]
    return layer in ADAPTED and leaf == "kernel"


def merge_lora(state: Params, lora: Lora, gain: float) -> Params:
    """Add ``g B A`` to the weights of a tower: the tower that was trained, as fast as before."""
    deltas = {
        f"{path}.kernel": gain * each["A"].T.astype(jnp.float32) @ each["B"].T
        for path, each in lora.items()
    }
    leaves, tree = list(leaf_paths(state).items()), jax.tree.structure(state)
    return jax.tree.unflatten(
        tree, [(leaf + deltas[p]).astype(leaf.dtype) if p in deltas else leaf for p, leaf in leaves]
    )


def wrap_lora(
    tower: Any, lora: Lora, gain: float, dropout: float = 0.0, key: PRNGKeyArray | None = None
) -> Any:
    """Put the matrices beside the projections of a built tower, in place; return it.

    Without a key nothing is dropped. With one, each matrix ``A`` sees its input through
    a :func:`dropout_mask` of its own.
    """
    for path, each in lora.items():
        *parents, name = path.split(".")
        attention = tower
        for parent in parents:
            attention = attention[int(parent)] if parent.isdigit() else getattr(attention, parent)
        drop = partial(_drop, key, path, dropout) if key is not None and dropout else None
        low = partial(_low_rank, getattr(attention, name), each, gain, drop)
        setattr(attention, name, _Static(low))
    return tower


@dataclass(frozen=True, eq=False)
class _Static:
    """A function in the place of a layer of a module."""

    function: Callable[[Array], Array]

    def __call__(self, x: Array) -> Array:
        return self.function(x)


def _low_rank(
    linear: Callable[[Array], Array],
    matrices: Mapping[str, Array],
    gain: float,
    drop: Callable[[Array], Array] | None,
    x: Float[Array, "*batch width"],
) -> Float[Array, "*batch out"]:
    seen = x if drop is None else drop(x)
    a, b = (matrices[name].astype(x.dtype) for name in "AB")
    return linear(x) + gain * (seen @ a.T) @ b.T


def _drop(key: PRNGKeyArray, path: str, rate: float, x: Float[Array, "*shape"]) -> Array:
    return jnp.where(dropout_mask(key, path, x.shape, rate), x / (1 - rate), 0)


def dropout_mask(
    key: PRNGKeyArray, path: str, shape: tuple[int, ...], rate: float
) -> Bool[Array, "*shape"]:
    """Say which inputs the matrices of a projection see; each with probability ``1 - rate``."""
    own = jax.random.fold_in(key, zlib.crc32(path.encode()))
    return jax.random.bernoulli(own, 1 - rate, shape)
