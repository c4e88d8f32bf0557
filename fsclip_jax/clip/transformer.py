"""The residual attention block that both towers of CLIP are made of.

Everything computes in the dtype of the weights: cast the parameters to bfloat16 and a tower
runs in bfloat16, with softmax and layer norm statistics in float32 all the same.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fsclip_jax.clip.attention import Attention, Past, linear
from fsclip_jax.clip.config import Activation
from fsclip_jax.typing import Array, Float, Int


def activate(x: Float[Array, "*shape"], kind: Activation) -> Float[Array, "*shape"]:
    """CLIP's non-linearity: ``x sigmoid(1.702 x)``, the exact (erf) GELU, or its tanh form.

    Example:
        >>> round(float(activate(jnp.float32(1.0), "quick_gelu")), 4)
        0.8458
    """
    if kind == "quick_gelu":
        return x * jax.nn.sigmoid(1.702 * x)
    return jax.nn.gelu(x, approximate=kind == "gelu_tanh")


def take_position(
    x: Float[Array, "batch length width"], at: Int[Array, "batch"]
) -> Float[Array, "batch 1 width"]:
    """Pick one position of each sequence.

    Example:
        >>> take_position(jnp.arange(6.0).reshape(1, 3, 2), jnp.array([2])).tolist()
        [[[4.0, 5.0]]]
    """
    return jnp.take_along_axis(x, at[:, None, None], axis=1)


class Block(nnx.Module):
    """Attention and a two-layer perceptron, each after its norm and added to its input.

    Initial weights scale with the depth of the whole tower. In a causal block a position sees only
    itself and what comes before it.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        *,
        layers: int,
        activation: Activation,
        norm_eps: float,
        causal: bool,
        rngs: nnx.Rngs,
    ):
        self.activation = activation
        self.causal = causal
        out_std = (2 * layers * width) ** -0.5
        self.norm1 = layer_norm(width, norm_eps, rngs=rngs)
        self.attention = Attention(width, heads, out_std, rngs=rngs)
        self.norm2 = layer_norm(width, norm_eps, rngs=rngs)
        self.fc1 = linear(width, mlp_width, (2 * width) ** -0.5, rngs=rngs)
        self.fc2 = linear(mlp_width, width, out_std, rngs=rngs)

    def past(self, x: Float[Array, "past width"]) -> Past:
        """Return what later positions see of these, in this block."""
        keys, values = self.attention.keys_values(self.norm1(x)[None])
        return Past(keys[0], values[0])

    def __call__(
        self,
        x: Float[Array, "batch length width"],
        at: Int[Array, "batch"] | None = None,
        past: Past | None = None,
    ) -> Float[Array, "batch kept width"]:
        """Run the block, at every position or only at one position of each sequence."""
        normed = self.norm1(x)
        positions = jnp.arange(x.shape[1])
        if at is None:
            asked, wanted = normed, positions[None, :]
        else:
            x, asked, wanted = take_position(x, at), take_position(normed, at), at[:, None]
        mask = positions[None, None, :] <= wanted[:, :, None] if self.causal else None
        causal = self.causal and at is None
        x = x + self.attention(asked, normed, mask, past, causal=causal)
        return x + self.fc2(activate(self.fc1(self.norm2(x)), self.activation))


def make_blocks(config: Any, *, causal: bool, rngs: nnx.Rngs) -> list[Block]:
    """Build the blocks of a tower, whose shapes are fields of its configuration."""
    return [
        Block(
            config.width,
            config.heads,
            config.mlp_width,
            layers=config.layers,
            activation=config.activation,
            norm_eps=config.norm_eps,
            causal=causal,
            rngs=rngs,
        )
        for _ in range(config.layers)
    ]


def run_blocks(
    blocks: Sequence[Block],
    x: Float[Array, "batch length width"],
    at: Int[Array, "batch"],
    pasts: Sequence[Past] | None = None,
) -> Float[Array, "batch width"]:
    """Run a tower's blocks up to its last norm and read each sequence at one position.

    The last block works at that position alone: CLIP reads no other, and the work that is
    left out is five sixths of the block. ``pasts`` came before all sequences, one for each block.
    """
    if not len(blocks):
        return take_position(x, at)[:, 0]
    each = [None] * len(blocks) if pasts is None else pasts
    for block, past in zip(blocks[:-1], each[:-1], strict=True):
        x = block(x, past=past)
    return blocks[-1](x, at, each[-1])[:, 0]


def run_past(blocks: Sequence[Block], x: Float[Array, "past width"]) -> tuple[Past, ...]:
    """Run one sequence through a causal tower and keep what later positions see of it."""
    pasts = []
    for index, block in enumerate(blocks):
        pasts.append(block.past(x))
        if index < len(blocks) - 1:
            x = block(x[None])[0]
    return tuple(pasts)


def layer_norm(width: int, eps: float, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Build a layer norm whose variance is taken about the mean, as PyTorch's is."""
    return nnx.LayerNorm(width, epsilon=eps, use_fast_variance=False, rngs=rngs)
