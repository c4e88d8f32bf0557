"""CLIP's image preprocessing: crop on the host, normalise on the device."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from PIL import Image

from fsclip_jax.typing import Array, Float, UInt8

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Channel means of CLIP's training images."""
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
"""Channel standard deviations of CLIP's training images."""

_FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert to RGB, with transparency laid on white.

    As ``transformers`` does it. OpenAI's own code drops the transparency, which uncovers
    whatever colour a picture happens to have below it.

    Example:
        >>> to_rgb(Image.new("RGBA", (1, 1), (0, 0, 0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


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

    def crop(self, image: Image.Image) -> UInt8[np.ndarray, "size size 3"]:
        """Convert to RGB, resize with PIL's filter, crop the centre."""
        image = to_rgb(image)
        width, height = image.size
        short = min(width, height)
        # CLIP truncates the longer edge; an exact product keeps integers from rounding down.
        new_width, new_height = (side * self.size // short for side in (width, height))
        if self.fit == "squash":
            new_width = new_height = self.size
        if image.size != (new_width, new_height):
            image = image.resize((new_width, new_height), _FILTERS[self.resample])
        left, top = (self._start(side - self.size) for side in (new_width, new_height))
        return np.asarray(image.crop((left, top, left + self.size, top + self.size)))

    def _start(self, margin: int) -> int:
        return margin // 2 if self.odd_margin == "floor" else round(margin / 2)

    def normalize(
        self, pixels: UInt8[Array | np.ndarray, "*batch height width 3"]
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
