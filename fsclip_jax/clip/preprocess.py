"""CLIP's image preprocessing: crop on the host, normalise on the device."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from PIL import Image

from fsclip_jax.pixels import cut, to_rgb
from fsclip_jax.typing import Array, Float, UInt8

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Channel means of CLIP's training images."""
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
"""Channel standard deviations of CLIP's training images."""


@dataclass(frozen=True)
class Preprocess:
    """Resize of the shortest edge, centre crop, mean and standard deviation.

    Example:
        >>> prepare = Preprocess(size=32)
        >>> prepare.crop(Image.new("RGB", (80, 50))).shape
        (32, 32, 3)
    """

    size: int
    """Side of the square that the image tower takes, in pixels."""
    mean: tuple[float, float, float] = OPENAI_MEAN
    """Channel means, of values in 0..1."""
    std: tuple[float, float, float] = OPENAI_STD
    """Channel standard deviations, of values in 0..1."""
    odd_margin: Literal["floor", "round"] = "floor"
    """Where a crop starts if its two margins cannot be equal: Hugging Face rounds half the margin
    down; OpenAI's and open_clip's torchvision rounds it to the nearest even number."""
    fit: Literal["crop", "squash"] = "crop"
    """How a picture becomes a square: CLIP resizes its shortest edge and crops the centre;
    SigLIP resizes both edges, whatever the picture's proportions."""
    resample: Literal["bicubic", "bilinear"] = "bicubic"
    """PIL's filter, with its antialiasing."""
    edge: int | None = None
    """Pixels to which the shortest edge is resized before a crop; None for those of the crop."""

    def crop(self, image: Image.Image) -> UInt8[np.ndarray, "size size 3"]:
        """Convert to RGB, resize with PIL's filter, crop the centre."""
        how = self.fit, self.resample, self.odd_margin, self.edge
        return cut(to_rgb(image), self.size, *how)

    def normalize(
        self,
        pixels: UInt8[Array | np.ndarray, "*batch height width 3"]
        | Float[Array, "*batch height width 3"],
    ) -> Float[Array, "*batch height width 3"]:
        """Scale pixels to 0..1, subtract the mean, divide by the standard deviation.

        ``(pixel / 255 - mean) / std``

        Example:
            >>> white = jnp.full((1, 1, 3), 255, jnp.uint8)
            >>> Preprocess(1, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).normalize(white).tolist()
            [[[1.0, 1.0, 1.0]]]
        """
        x = jnp.asarray(pixels, jnp.float32) * (1 / 255)
        shape = (1,) * (x.ndim - 1) + (3,)
        mean = jnp.asarray(self.mean, jnp.float32).reshape(shape)
        std = jnp.asarray(self.std, jnp.float32).reshape(shape)
        return (x - mean) / std
