"""Draw the pictures of the corpus, and tell copies of benchmark renderings."""

from dataclasses import dataclass
from multiprocessing import Pool
from pathlib import Path

import emoji_concepts
import iconify
import numpy as np
from PIL import Image
from scipy import ndimage

SIZE = 48
SMALL = 16
"""Side at which pictures are compared with the benchmark."""

KINDS = ("emoji", "color", "glyph")
INK = 96
"""Ink darker than this bounds the areas of a glyph."""


@dataclass(frozen=True)
class Entry:
    """One picture to draw: where it comes from and what it is called."""

    set_name: str
    icon: str
    names: tuple[str, ...]
    kind: str
    weight: float


_OPEN_SETS: dict[tuple[Path, str], iconify.IconSet] = {}
"""Parsed sets of a worker process."""


def draw(job: tuple[Path, Entry]) -> np.ndarray | None:
    """Draw one entry: ``[48 48 3]`` for pictures, ``[48 48 2]`` for glyphs, None if it fails."""
    npm, entry = job
    if entry.set_name == emoji_concepts.FLUENT_3D:
        return open_raster(emoji_concepts.fluent_3d(emoji_concepts.node_modules(npm)) / entry.icon)
    where = (npm, entry.set_name)
    if where not in _OPEN_SETS:
        _OPEN_SETS[where] = iconify.load_set(*where)
    image = iconify.render(iconify.svg(_OPEN_SETS[where], entry.icon, SIZE), SIZE)
    if image is None or image.min() == image.max():
        return None
    return image if entry.kind != "glyph" else glyph_layers(255 - image[..., 1])


def open_raster(path: Path) -> np.ndarray:
    """Read a picture file, put it on white and give it the margin that drawn icons have."""
    picture = Image.open(path).convert("RGBA")
    canvas = Image.new("RGBA", picture.size, (255, 255, 255, 255))
    canvas.alpha_composite(picture)
    side = round(SIZE / 1.06)
    framed = Image.new("RGB", (SIZE, SIZE), "white")
    corner = (SIZE - side) // 2
    framed.paste(
        canvas.convert("RGB").resize((side, side), Image.Resampling.LANCZOS), (corner,) * 2
    )
    return np.asarray(framed)


def glyph_layers(ink: np.ndarray) -> np.ndarray:
    """Split a one-colour icon into ink and the areas that training may paint.

    Args:
        ink: uint8 ``[h w]``, 255 where the icon is drawn.

    Returns:
        uint8 ``[h w 2]``: the ink; and the area, ``8 * stroke + hole``, where ``hole`` numbers
        the white areas that ink encloses (0 is the outside) and ``stroke`` the inked parts.
    """
    holes, n_holes = ndimage.label(ink < INK)
    edge = np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    outside = np.isin(np.arange(n_holes + 1), edge)
    outside[0] = True
    number = np.zeros(n_holes + 1, np.uint8)
    inner = np.flatnonzero(~outside)
    number[inner] = 1 + np.arange(len(inner)) % 7
    strokes, n_strokes = ndimage.label(ink >= INK)
    stroke = np.concatenate([[0], np.arange(n_strokes) % 7 + 1]).astype(np.uint8)
    # A soft edge belongs to the stroke it borders, else its rim would keep another colour.
    spread = ndimage.grey_dilation(stroke[strokes], size=(3, 3))
    return np.stack([ink, number[holes] + 8 * spread], -1)


def small(pictures: np.ndarray) -> np.ndarray:
    """Average pictures down to ``SMALL`` pixels: float32 ``[n SMALL*SMALL*3]`` of ink, 0 on white.

    Args:
        pictures: uint8 ``[n h w 3]``, or ``[n h w 2]`` glyphs.
    """
    ink = pictures[..., :1].repeat(3, -1) if pictures.shape[-1] == 2 else 255 - pictures
    n, side = len(ink), ink.shape[1] // SMALL
    blocks = ink.reshape(n, SMALL, side, SMALL, side, 3).astype(np.float32)
    return blocks.mean((2, 4)).reshape(n, -1) / 255


def ink_distance(pictures: np.ndarray, benchmark: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each picture's distance to the nearest benchmark rendering, and which that is.

    ``d(a, b) = |a - b| / max(|a|, |b|)`` over 16-pixel ink: 0 for a copy, about 1 for unrelated
    drawings, and thin drawings on much white are not near each other merely for being thin.
    """
    norm_a = np.linalg.norm(pictures, axis=1)[:, None]
    norm_b = np.linalg.norm(benchmark, axis=1)[None]
    square = norm_a**2 + norm_b**2 - 2 * pictures @ benchmark.T
    distance = np.sqrt(np.maximum(square, 0)) / np.maximum(np.maximum(norm_a, norm_b), 1e-6)
    return distance.min(1), distance.argmin(1)


def draw_all(npm: Path, entries: list[Entry], workers: int) -> list[np.ndarray | None]:
    """Draw every entry on a few processes, telling how far it is."""
    images: list[np.ndarray | None] = []
    with Pool(workers) as pool:
        for image in pool.imap(draw, ((npm, entry) for entry in entries), chunksize=256):
            images.append(image)
            if len(images) % 20_000 == 0:
                print(f"drawn {len(images)} of {len(entries)}", flush=True)
    return images
