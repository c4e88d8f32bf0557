"""Art on white to art with an outline: what a scene is made of."""

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from scipy import ndimage

WHITE = 246
"""A pixel is paper where its darkest channel is at least this: the sheets are slightly lossy."""

_CROSS = ndimage.generate_binary_structure(2, 1)
_SQUARE = np.ones((3, 3), bool)


def paper(pixels: UInt8[np.ndarray, "height width 3"]) -> Bool[np.ndarray, "height width"]:
    """Find the white that reaches the edge of a picture.

    White that is enclosed by the drawing, such as an eye or a page, belongs to the drawing.

    Example:
        >>> drawing = np.full((5, 5, 3), 255, np.uint8)
        >>> drawing[1:4, 1:4] = 0
        >>> drawing[2, 2] = 255
        >>> paper(drawing).astype(int).sum()
        np.int64(16)
    """
    # A frame of white around it makes all paper one piece, and that piece is number one.
    white = np.pad(pixels.min(-1) >= WHITE, 1, constant_values=True)
    pieces, _ = ndimage.label(white, _CROSS)
    return pieces[1:-1, 1:-1] == pieces[0, 0]


def cut_out(picture: Image.Image) -> Image.Image:
    """Take the paper away from a drawing and crop it to what is left, mode RGBA.

    At the outline a pixel is a mixture ``a F + (1 - a) white``. The paint ``F`` is taken to be as
    dark as the darkest of the nine pixels around, which gives the coverage ``a``, and ``F`` follows
    from it. Elsewhere ``a`` is 1 on the drawing and 0 on the paper. With nothing on the paper the
    size is 0 x 0.

    Example:
        >>> page = Image.new("RGB", (64, 64), "white")
        >>> page.paste((200, 30, 30), (10, 20, 50, 40))
        >>> cut_out(page).size
        (40, 20)
    """
    pixels = np.asarray(picture.convert("RGB"))
    away = paper(pixels)
    window = ndimage.find_objects((~away).astype(np.int8))
    if not window:
        return Image.new("RGBA", (0, 0))
    ink = 255.0 - pixels.min(-1)
    outline = ndimage.binary_dilation(away, _SQUARE) & ~away
    fullest = ndimage.maximum_filter(np.where(away, 0.0, ink), footprint=_SQUARE)
    cover = np.where(outline, np.clip(ink / np.maximum(fullest, 1.0), 0.0, 1.0), ~away)
    part = np.maximum(cover, 1 / 255)[..., None]
    paint = np.clip((pixels - 255.0 * (1 - part)) / part, 0, 255)
    whole = np.concatenate([paint, 255 * cover[..., None]], axis=-1)
    return Image.fromarray(np.rint(whole[window[0]]).astype(np.uint8), "RGBA")


def is_one_thing(art: Image.Image) -> bool:
    """Say whether a cut-out is one solid piece of some size: a thing that a box and a mask fit.

    Its largest piece is at least nine tenths of it, it fills a third of its box or more, and its
    shorter side is at least a third of the longer one and 20 pixels.

    Example:
        >>> is_one_thing(Image.new("RGBA", (40, 30), "red"))
        True
        >>> is_one_thing(Image.new("RGBA", (40, 5), "red"))
        False
    """
    short, long = sorted(art.size)
    if short < 20 or 3 * short < long:
        return False
    solid = np.asarray(art)[..., 3] >= 128
    area = int(solid.sum())
    pieces, _ = ndimage.label(solid, _SQUARE)
    largest = int(np.bincount(pieces.ravel())[1:].max(initial=0))
    return 3 * area >= solid.size and 10 * largest >= 9 * area
