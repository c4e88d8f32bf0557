"""Augmentation of small pictures on the device: painting one-colour icons, moving, resizing.

Most open icons are black glyphs on white, while the pictures that a CLIP is asked about have
colours. Painting the areas that a glyph encloses, each in its own colour, turns an outline into
something like a coloured drawing.
"""

import jax
import jax.numpy as jnp

from fsclip_jax.typing import Array, Float, PRNGKeyArray, UInt8

AREAS = 8
"""Enclosed areas, and inked parts, that are told apart; area 0 is the outside."""

_PLAIN = 0.2  # of the glyphs stay black on white
_FILLED = 0.7  # of the others have their areas painted
_ONE_INK = 0.5  # have ink of one colour
_DARK_INK = 0.4  # have ink that is nearly black
_WHITE = 0.85  # stand on white, as the pictures of the benchmark do
_SWAPPED = 0.25  # of the pictures have their colour channels permuted


def random_colors(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*shape 3"]:
    """Draw colours of uniform hue, from pale to saturated and from dark to light.

    Args:
        key: random key.
        shape: how many.

    Returns:
        RGB values in 0..1.

    Example:
        >>> random_colors(jax.random.key(0), (4,)).shape
        (4, 3)
    """
    hue_key, saturation_key, value_key = jax.random.split(key, 3)
    hue = jax.random.uniform(hue_key, (*shape, 1))
    saturation = jax.random.uniform(saturation_key, (*shape, 1), minval=0.1)
    value = jax.random.uniform(value_key, (*shape, 1), minval=0.25)
    thirds = jnp.array([0.0, 1 / 3, 2 / 3]).reshape((1,) * len(shape) + (3,))
    pure = jnp.clip(jnp.abs((hue + thirds) % 1.0 * 6.0 - 3.0) - 1.0, 0.0, 1.0)
    return value * (1.0 - saturation * (1.0 - pure))


def paint_glyphs(
    key: PRNGKeyArray, glyphs: UInt8[Array, "n height width 2"]
) -> tuple[Float[Array, "n height width 3"], Float[Array, "n 3"]]:
    """Turn glyphs into coloured pictures.

    Args:
        key: random key.
        glyphs: ink (255 where drawn), and ``8 * part + area`` for every pixel, as
            ``scripts/build_corpus.py`` writes them.

    Returns:
        Pictures in 0..1, and the colour of each one's background.

    Example:
        >>> pictures, ground = paint_glyphs(jax.random.key(0), jnp.zeros((2, 8, 8, 2), jnp.uint8))
        >>> bool((pictures == ground[:, None, None]).all())
        True
    """
    n = len(glyphs)
    keys = jax.random.split(key, 8)
    plain, filled, one_ink, dark, white = (
        jax.random.uniform(k, (n, 1)) < part
        for k, part in zip(keys, (_PLAIN, _FILLED, _ONE_INK, _DARK_INK, _WHITE), strict=False)
    )
    ground = jnp.where(white | plain, 1.0, random_colors(keys[5], (n,)))
    fills = jnp.where(
        (filled & ~plain)[:, None], random_colors(keys[6], (n, AREAS)), ground[:, None]
    )
    fills = fills.at[:, 0].set(ground)
    inks = random_colors(keys[7], (n, AREAS))
    inks = jnp.where(one_ink[:, None], inks[:, :1], inks)
    inks = jnp.where(dark[:, None], 0.25 * inks, inks) * ~plain[:, None]
    ink = glyphs[..., :1].astype(jnp.float32) / 255.0
    areas = glyphs[..., 1].astype(jnp.int32)
    under = _look_up(fills, areas % AREAS)
    over = _look_up(inks, areas // AREAS)
    return under + ink * (over - under), ground


def _look_up(palette: Float[Array, "n areas 3"], areas: Array) -> Float[Array, "n height width 3"]:
    n, height, width = areas.shape
    # A one-hot product: gathers of three values each are slow on accelerators.
    chosen = jax.nn.one_hot(areas.reshape(n, -1), AREAS)
    return jnp.einsum("npa,nac->npc", chosen, palette).reshape(n, height, width, 3)


def vary_pictures(
    key: PRNGKeyArray, pictures: UInt8[Array, "n height width 3"]
) -> tuple[Float[Array, "n height width 3"], Float[Array, "n 3"]]:
    """Vary the colours of pictures on white; white stays white.

    Args:
        key: random key.
        pictures: RGB on white.

    Returns:
        Pictures in 0..1, and their background, which is white.
    """
    n = len(pictures)
    swap_key, order_key, strength_key = jax.random.split(key, 3)
    x = pictures.astype(jnp.float32) / 255.0
    orders = jnp.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    swapped = jax.random.uniform(swap_key, (n,)) < _SWAPPED
    order = orders[jnp.where(swapped, jax.random.randint(order_key, (n,), 0, 6), 0)]
    x = jnp.einsum("nhwc,ndc->nhwd", x, jax.nn.one_hot(order, 3))
    strength = jax.random.uniform(strength_key, (n, 1, 1, 3), minval=0.75, maxval=1.1)
    return jnp.clip(1.0 - strength * (1.0 - x), 0.0, 1.0), jnp.ones((n, 3))


def move_and_resize(
    key: PRNGKeyArray,
    pictures: Float[Array, "n side side 3"],
    ground: Float[Array, "n 3"],
    size: int,
) -> Float[Array, "n size size 3"]:
    """Scale, stretch and shift pictures and resize them, in one pair of matrix products.

    The scale is 0.8 to 1.25, the stretch a tenth, the shift a twelfth of the side. No flips:
    "left arrow" has a side.

    Args:
        key: random key.
        pictures: in 0..1.
        ground: what lies outside of each picture.
        size: side of the result.

    Returns:
        Pictures in 0..1, resized by Catmull-Rom splines widened against aliasing, as PIL's
        bicubic does.
    """
    n, side = pictures.shape[:2]
    scale_key, stretch_key, shift_key = jax.random.split(key, 3)
    span = jnp.log(1.25)
    scale = jnp.exp(jax.random.uniform(scale_key, (n, 1), minval=-span, maxval=span))
    stretch = jnp.exp(jax.random.uniform(stretch_key, (n, 1), minval=-0.1, maxval=0.1))
    shift = jax.random.uniform(shift_key, (n, 2), minval=-1 / 12, maxval=1 / 12)
    scales = jnp.concatenate([scale * stretch, scale / stretch], axis=1)
    rows = resize_weights(scales[:, 0], shift[:, 0], side, size)
    columns = resize_weights(scales[:, 1], shift[:, 1], side, size)
    around = ground[:, None, None]
    moved = jnp.einsum("nrh,nhwc->nrwc", rows, pictures - around)
    moved = jnp.einsum("nkw,nrwc->nrkc", columns, moved)
    return jnp.clip(moved + around, 0.0, 1.0)


def resize_weights(
    scale: Float[Array, "n"], shift: Float[Array, "n"], side: int, size: int
) -> Float[Array, "n size side"]:
    """Weights of the source pixels in each target pixel; outside pixels count as zero."""
    target = (jnp.arange(size) + 0.5) / size - 0.5
    source = ((target[None] - shift[:, None]) / scale[:, None] + 0.5) * side
    reach = jnp.maximum(side / size / scale, 1.0)[:, None, None]
    distance = (source[:, :, None] - (jnp.arange(side) + 0.5)[None, None]) / reach
    return catmull_rom(distance) / reach


def catmull_rom(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Keys' cubic kernel with a = -1/2, which PIL calls bicubic.

    Source: Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981.

    Args:
        x: distance in pixels.

    Returns:
        The weight; zero from a distance of two.

    Example:
        >>> catmull_rom(jnp.array([0.0, 1.0, 2.0])).tolist()
        [1.0, 0.0, 0.0]
    """
    x = jnp.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return jnp.where(x < 1.0, near, jnp.where(x < 2.0, far, 0.0))


def augment(
    key: PRNGKeyArray,
    pictures: UInt8[Array, "n side side 3"],
    glyphs: UInt8[Array, "m side side 2"],
    size: int,
) -> Float[Array, "images size size 3"]:
    """Augment a batch: pictures first, then glyphs.

    Args:
        key: random key.
        pictures: multi-colour pictures on white.
        glyphs: one-colour icons with their areas.
        size: side of the images that the tower takes.

    Returns:
        Images in 0..1.
    """
    picture_key, glyph_key, move_key = jax.random.split(key, 3)
    colored, white = vary_pictures(picture_key, pictures)
    painted, ground = paint_glyphs(glyph_key, glyphs)
    return move_and_resize(
        move_key,
        jnp.concatenate([colored, painted]),
        jnp.concatenate([white, ground]),
        size,
    )
