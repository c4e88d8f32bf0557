"""The convolutions and the pooling of CLIP's ResNet, in the form that is fast on the device."""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from fsclip_jax.clip.initial import drawn
from fsclip_jax.typing import Array, Float


def convolve(
    x: Float[Array, "batch height width in"],
    kernel: Float[Array, "rows columns in out"],
    stride: int = 1,
) -> Float[Array, "batch new_height new_width out"]:
    """Convolve with a kernel of side 1, or with one of side 3 and a margin of zeros of 1.

    On the CPU, XLA's convolution is slow for few channels and pathologically slow on maps of
    two pixels (20 times slower than the same sums as one matrix product, forward and backward
    together), so those shapes are laid out as matrix products. Other devices always get
    XLA's convolution. The new sides are ``ceil(height / stride)`` and ``ceil(width / stride)``.

    Example:
        >>> convolve(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 5)), stride=2).shape
        (1, 2, 2, 5)
    """
    side = kernel.shape[0]
    largest, channels = max(x.shape[1:3]), x.shape[3]
    if side == 1 and stride == 1:
        return x @ kernel[0, 0]
    if side == 3 and jax.default_backend() == "cpu":
        if largest == 1:  # every other tap meets the margin
            return x @ kernel[1, 1]
        if largest == 2 or channels <= 3:
            return _convolve_by_product(x, kernel, stride)
    margin = side // 2
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(margin, margin), (margin, margin)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _convolve_by_product(
    x: Float[Array, "batch height width in"], kernel: Float[Array, "3 3 in out"], stride: int
) -> Float[Array, "batch new_height new_width out"]:
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [
        padded[:, row : row + height : stride, column : column + width : stride]
        for row in range(3)
        for column in range(3)
    ]
    return jnp.concatenate(taps, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def average_pool(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch half_height half_width channels"]:
    """Average squares of two by two pixels; an odd last row or column is left out."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


class Convolution(nnx.Module):
    """A convolution by a square kernel, with a bias where the norm behind it is folded in."""

    def __init__(
        self,
        channels: int,
        features: int,
        side: int,
        *,
        stride: int = 1,
        bias: bool = False,
        rngs: nnx.Rngs,
    ):
        self.stride = stride
        initial = drawn(nnx.initializers.he_normal(), rngs)
        self.kernel = nnx.Param(initial(rngs.params(), (side, side, channels, features)))
        self.bias = nnx.Param(jnp.zeros(features)) if bias else None

    def __call__(
        self, x: Float[Array, "batch height width in"]
    ) -> Float[Array, "batch new_height new_width out"]:
        """Convolve feature maps."""
        y = convolve(x, self.kernel[...], self.stride)
        return y if self.bias is None else y + self.bias[...][None, None, None]
