"""The residual attention block that both towers of CLIP are made of.

Everything computes in the dtype of the weights: cast the parameters to bfloat16 and a tower
runs in bfloat16, with softmax and layer norm statistics in float32 all the same.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from fsclip_jax.clip.config import Activation
from fsclip_jax.typing import Array, Bool, Float, Int


def activate(x: Float[Array, "*shape"], kind: Activation) -> Float[Array, "*shape"]:
    """CLIP's non-linearity: ``x sigmoid(1.702 x)``, or the exact (erf) GELU.

    Args:
        x: pre-activations.
        kind: "quick_gelu" or "gelu".

    Returns:
        Activations of the same shape and dtype.

    Example:
        >>> round(float(activate(jnp.float32(1.0), "quick_gelu")), 4)
        0.8458
    """
    if kind == "quick_gelu":
        return x * jax.nn.sigmoid(1.702 * x)
    return jax.nn.gelu(x, approximate=False)


def take_position(
    x: Float[Array, "batch length width"], at: Int[Array, "batch"]
) -> Float[Array, "batch 1 width"]:
    """Pick one position of each sequence.

    Args:
        x: sequences.
        at: the position to keep of each.

    Returns:
        Sequences of length one.

    Example:
        >>> take_position(jnp.arange(6.0).reshape(1, 3, 2), jnp.array([2])).tolist()
        [[[4.0, 5.0]]]
    """
    return jnp.take_along_axis(x, at[:, None, None], axis=1)


class Attention(nnx.Module):
    """Multi-head attention, ``softmax(Q K^T / sqrt(d)) V``, with a bias in every projection.

    Args:
        width: channels of the residual stream.
        heads: attention heads; they divide the width.
        out_std: standard deviation of the output projection at the start of training.
        rngs: random streams of the initial weights.
    """

    def __init__(self, width: int, heads: int, out_std: float, *, rngs: nnx.Rngs):
        self.heads = heads
        initial = nnx.initializers.normal(width**-0.5)
        self.q_proj = nnx.Linear(width, width, kernel_init=initial, rngs=rngs)
        self.k_proj = nnx.Linear(width, width, kernel_init=initial, rngs=rngs)
        self.v_proj = nnx.Linear(width, width, kernel_init=initial, rngs=rngs)
        self.out_proj = nnx.Linear(
            width, width, kernel_init=nnx.initializers.normal(out_std), rngs=rngs
        )

    def __call__(
        self,
        x: Float[Array, "batch asked width"],
        source: Float[Array, "batch length width"],
        mask: Bool[Array, "#batch asked length"] | None,
    ) -> Float[Array, "batch asked width"]:
        """Let the positions of ``x`` look at those of ``source`` that the mask keeps."""
        q, k, v = (
            y.reshape(*y.shape[:2], self.heads, -1)
            for y in (self.q_proj(x), self.k_proj(source), self.v_proj(source))
        )
        scores = jnp.einsum(
            "bqhd,bkhd->bhqk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32
        )
        if mask is not None:
            scores = jnp.where(mask[:, None], scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", weights, v)
        return self.out_proj(mixed.reshape(x.shape))


class Block(nnx.Module):
    """Attention and a two-layer perceptron, each after its norm and added to its input.

    Args:
        width: channels of the residual stream.
        heads: attention heads; they divide the width.
        mlp_width: hidden channels of the perceptron.
        layers: depth of the whole tower, which scales the initial weights.
        activation: non-linearity of the perceptron.
        norm_eps: added to the variance in the norms.
        causal: a position sees only itself and what comes before it.
        rngs: random streams of the initial weights.
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
        self.fc1 = nnx.Linear(
            width, mlp_width, kernel_init=nnx.initializers.normal((2 * width) ** -0.5), rngs=rngs
        )
        self.fc2 = nnx.Linear(
            mlp_width, width, kernel_init=nnx.initializers.normal(out_std), rngs=rngs
        )

    def __call__(
        self, x: Float[Array, "batch length width"], at: Int[Array, "batch"] | None = None
    ) -> Float[Array, "batch kept width"]:
        """Run the block, at every position or only at one position of each sequence."""
        normed = self.norm1(x)
        positions = jnp.arange(x.shape[1])
        if at is None:
            asked, wanted = normed, positions[None, :]
        else:
            x, asked, wanted = take_position(x, at), take_position(normed, at), at[:, None]
        mask = positions[None, None, :] <= wanted[:, :, None] if self.causal else None
        x = x + self.attention(asked, normed, mask)
        return x + self.fc2(activate(self.fc1(self.norm2(x)), self.activation))


def run_blocks(
    blocks: Sequence[Block], x: Float[Array, "batch length width"], at: Int[Array, "batch"]
) -> Float[Array, "batch width"]:
    """Run a tower's blocks and read one position of each sequence.

    The last block works at that position alone: CLIP reads no other, and the work that is
    left out is five sixths of the block.

    Args:
        blocks: the tower's blocks in order.
        x: embedded sequences.
        at: the position that is read of each sequence.

    Returns:
        One vector a sequence, before the tower's last norm.
    """
    for block in blocks[:-1]:
        x = block(x)
    return blocks[-1](x, at)[:, 0] if len(blocks) else take_position(x, at)[:, 0]


def layer_norm(width: int, eps: float, *, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Build a layer norm whose variance is taken about the mean, as PyTorch's is."""
    return nnx.LayerNorm(width, epsilon=eps, use_fast_variance=False, rngs=rngs)
