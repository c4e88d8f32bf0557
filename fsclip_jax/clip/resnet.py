"""CLIP's modified ResNet."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fsclip_jax.clip.attention import embedding, linear
from fsclip_jax.clip.config import ResNetConfig
from fsclip_jax.clip.convolve import Convolution, average_pool
from fsclip_jax.clip.micro_batches import in_pieces, power_of_two, require_size
from fsclip_jax.typing import Array, Float

EXPANSION = 4
"""Channels that a bottleneck block gives out, as a multiple of those it works in."""

NORM_EPS = 1e-5
"""Added to the variance in every batch norm."""

RESNET_PIECE = 4
"""Images of RN50 at a time: 1.4 times as fast as 32 (two Xeon cores, docs/speed.md)."""

_RN50_MAP = 112**2 * 64  # numbers in the first map of an image


def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Rectify maps, ``max(x, 0)``.

    On the CPU XLA takes convolutions, what lies between them and a mean behind them together
    (a custom fusion of YNNPACK, in jaxlib 0.11 and 0.12). Of bfloat16 with two rectifiers inside,
    the result is wrong, up to inf and NaN. It does not look past a barrier.
    """
    y = nnx.relu(x)
    if x.dtype == jnp.bfloat16 and jax.default_backend() == "cpu":
        return lax.optimization_barrier(y)
    return y


class Bottleneck(nnx.Module):
    """Convolutions of side 1, 3 and 1 to ``EXPANSION`` times ``width`` channels, and a shortcut."""

    def __init__(
        self, channels: int, width: int, stride: int, *, folded: bool = False, rngs: nnx.Rngs
    ):
        out = width * EXPANSION
        self.stride = stride
        self.conv1 = Convolution(channels, width, 1, bias=folded, rngs=rngs)
        self.bn1 = _batch_norm(width, folded, rngs)
        self.conv2 = Convolution(width, width, 3, bias=folded, rngs=rngs)
        self.bn2 = _batch_norm(width, folded, rngs)
        self.conv3 = Convolution(width, out, 1, bias=folded, rngs=rngs)
        # The block starts as its shortcut: training is steadier so (OpenAI's initial values).
        self.bn3 = _batch_norm(out, folded, rngs, scale=0.0)
        self.has_downsample = stride > 1 or channels != out
        if self.has_downsample:
            self.downsample_conv = Convolution(channels, out, 1, bias=folded, rngs=rngs)
            self.downsample_bn = _batch_norm(out, folded, rngs)

    def __call__(
        self, x: Float[Array, "batch height width in"], *, train: bool = False
    ) -> Float[Array, "batch new_height new_width out"]:
        """Run the block."""
        y = relu(_normalise(self.bn1, self.conv1(x), train))
        y = relu(_normalise(self.bn2, self.conv2(y), train))
        y = average_pool(y) if self.stride > 1 else y
        y = _normalise(self.bn3, self.conv3(y), train)
        if self.has_downsample:
            x = average_pool(x) if self.stride > 1 else x
            x = _normalise(self.downsample_bn, self.downsample_conv(x), train)
        return relu(x + y)


class AttentionPool(nnx.Module):
    """Attention in which the mean of a map asks the map and itself."""

    def __init__(self, grid: int, width: int, heads: int, out: int, *, rngs: nnx.Rngs):
        self.heads = heads
        std = width**-0.5
        self.position_embedding = embedding(grid**2 + 1, width, std, rngs=rngs)
        self.q_proj = linear(width, width, std, rngs=rngs)
        self.k_proj = linear(width, width, std, rngs=rngs)
        self.v_proj = linear(width, width, std, rngs=rngs)
        self.out_proj = linear(width, out, std, rngs=rngs)

    def __call__(self, x: Float[Array, "batch height width channels"]) -> Float[Array, "batch dim"]:
        """Pool each map to one vector."""
        return self.out_proj(self.pool(x))

    def pool(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch channels"]:
        """Pool each map, before the last projection."""
        batch, _, _, channels = x.shape
        x = x.reshape(batch, -1, channels)
        x = jnp.concatenate([x.mean(1, keepdims=True), x], axis=1)
        x = x + self.position_embedding[...][None].astype(x.dtype)
        q = self.q_proj(x[:, 0]).reshape(batch, self.heads, -1)
        k = self.k_proj(x).reshape(batch, x.shape[1], self.heads, -1)
        v = self.v_proj(x).reshape(batch, x.shape[1], self.heads, -1)
        scores = jnp.einsum(
            "bhd,bkhd->bhk", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32
        )
        weights = nnx.softmax(scores, axis=-1).astype(v.dtype)
        return jnp.einsum("bhk,bkhd->bhd", weights, v).reshape(batch, channels)

    def every_position(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch positions dim"]:
        """Project every position as if it alone were attended to, ``W_o W_v (x_i + e_i)``."""
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = x + self.position_embedding[...][None, 1:].astype(x.dtype)
        return self.out_proj(self.v_proj(x))


class ModifiedResNet(nnx.Module):
    """Three convolutions, four stages of bottleneck blocks, and attention pooling.

    It differs from a ResNet-50 in its three-layer stem, in strides that are average pooling
    after a convolution of stride 1, and in the attention pooling.

    Example:
        >>> config = ResNetConfig((1, 1, 1, 1), 4, 32, embed_dim=8, heads=2)
        >>> ModifiedResNet(config, rngs=nnx.Rngs(0))(jnp.zeros((5, 32, 32, 3))).shape
        (5, 8)

    Source: Radford et al., Learning Transferable Visual Models From Natural Language
    Supervision, ICML 2021, section 2.4.
    """

    def __init__(self, config: ResNetConfig, *, rngs: nnx.Rngs):
        self.config = config
        width, folded = config.width, config.folded
        self.conv1 = Convolution(3, width // 2, 3, stride=2, bias=folded, rngs=rngs)
        self.bn1 = _batch_norm(width // 2, folded, rngs)
        self.conv2 = Convolution(width // 2, width // 2, 3, bias=folded, rngs=rngs)
        self.bn2 = _batch_norm(width // 2, folded, rngs)
        self.conv3 = Convolution(width // 2, width, 3, bias=folded, rngs=rngs)
        self.bn3 = _batch_norm(width, folded, rngs)
        stages, channels = [], width
        for stage, depth in enumerate(config.layers):
            inside = width * 2**stage
            blocks = []
            for block in range(depth):
                stride = 2 if stage and not block else 1
                blocks.append(Bottleneck(channels, inside, stride, folded=folded, rngs=rngs))
                channels = inside * EXPANSION
            stages.append(nnx.List(blocks))
        self.stages = nnx.List(stages)
        self.attnpool = AttentionPool(
            config.grid, config.feature_width, config.heads, config.embed_dim, rngs=rngs
        )

    def __call__(
        self, pixels: Float[Array, "batch size size 3"], *, train: bool = False
    ) -> Float[Array, "batch dim"]:
        """Encode normalised images of side ``image_size``; features are not normalised.

        To ``train`` is to normalise by the batch and update the running statistics in place.

        Raises:
            ValueError: the images have another size, or a tower whose norms are folded is to be
                trained.
        """
        if train:  # the statistics are of the whole batch
            return self.attnpool(self._map(pixels, train))
        return in_pieces(
            lambda x: self.attnpool(self._map(x, train=False)), pixels, resnet_piece(self.config)
        )

    def before_projection(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch channels"]:
        """Encode images as far as the last projection, :attr:`last`."""
        return in_pieces(
            lambda x: self.attnpool.pool(self._map(x, train=False)),
            pixels,
            resnet_piece(self.config),
        )

    @property
    def last(self) -> nnx.Linear:
        """The projection of the pooled map to the joint space."""
        last: nnx.Linear = self.attnpool.out_proj
        return last

    def with_patches(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> tuple[Float[Array, "batch dim"], Float[Array, "batch patches dim"]]:
        """Encode images as a whole and position by position of the last map, row by row.

        A position's vector is ``W_o W_v (x_i + e_i)``: what the image feature would be if the
        attention pooling looked at that position alone.
        """

        def encode(pixels: Array) -> tuple[Array, Array]:
            x = self._map(pixels, train=False)
            return self.attnpool(x), self.attnpool.every_position(x)

        return in_pieces(encode, pixels, resnet_piece(self.config))

    def _map(
        self, pixels: Float[Array, "batch size size 3"], train: bool
    ) -> Float[Array, "batch height width channels"]:
        require_size(pixels, self.config.image_size)
        x = relu(_normalise(self.bn1, self.conv1(pixels), train))
        x = relu(_normalise(self.bn2, self.conv2(x), train))
        x = relu(_normalise(self.bn3, self.conv3(x), train))
        x = average_pool(x)
        for stage in self.stages:
            for block in stage:
                x = block(x, train=train)
        return x


def _batch_norm(
    width: int, folded: bool, rngs: nnx.Rngs, scale: float = 1.0
) -> nnx.BatchNorm | None:
    if folded:
        return None
    return nnx.BatchNorm(
        width,
        use_running_average=True,
        momentum=0.9,
        epsilon=NORM_EPS,
        scale_init=nnx.initializers.constant(scale),
        rngs=rngs,
    )


def _normalise(
    norm: nnx.BatchNorm | None, x: Float[Array, "batch height width channels"], train: bool
) -> Float[Array, "batch height width channels"]:
    if norm is not None:
        return norm(x, use_running_average=not train)
    if train:
        raise ValueError("the batch norms of this tower are folded away; it cannot be trained")
    return x


def resnet_piece(config: ResNetConfig) -> int:
    """Return how many images a ResNet takes at a time on this kind of device; 0 means all.

    Of a tower whose maps are smaller than RN50's, more: a power of two, whose maps are as large.
    """
    first = (config.image_size // 2) ** 2 * config.width
    return power_of_two(RESNET_PIECE * max(1, _RN50_MAP // first))
