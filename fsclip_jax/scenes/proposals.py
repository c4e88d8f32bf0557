"""Boxes that may hold a thing, for any picture, from the picture alone.

Selective search: over-segment, group the regions bottom up, keep the box of every region that ever
was; and do so in several ways, for no single way suits all pictures. It is our own because no
package that is needed anyhow has it.

Source: Uijlings et al., Selective Search for Object Recognition, IJCV 2013.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from fsclip_jax.data.boxes import overlaps
from fsclip_jax.data.folder import list_pictures
from fsclip_jax.data.masks import Record
from fsclip_jax.data.pictures import read_image
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.durable import storage_errors, write_json
from fsclip_jax.errors import UserError, require_extra, some, tell
from fsclip_jax.scenes.hierarchy import group

WAYS: tuple[tuple[str, float, bool], ...] = (
    ("lab", 100.0, True),
    ("lab", 300.0, False),
    ("hsv", 100.0, True),
    ("hsv", 300.0, False),
)
"""Colour space, scale of the first regions (the ``k`` of Felzenszwalb and Huttenlocher) and
whether textures are compared."""

MIN_REGION = 40
"""Pixels of the smallest first region."""

MIN_SIDE = 12
"""A box whose shorter side is less than this is dropped."""

MOST = 150
"""Boxes kept of a picture."""


def propose(
    pixels: UInt8[np.ndarray, "height width 3"], most: int = MOST
) -> tuple[Float[np.ndarray, "boxes 4"], Float[np.ndarray, "boxes"]]:
    """Propose boxes, the most promising first.

    A box's rank is its place in its hierarchy, counted from the last, times a random number, as
    in section 4.4 of the paper: else large boxes would come first. The number comes from the
    pixels: the same picture always gives the same boxes.

    Returns:
        Boxes ``x, y, width, height``, and falling scores in (0, 1], which order them only.

    Example:
        >>> page = np.full((80, 80, 3), 255, np.uint8)
        >>> page[20:60, 10:50] = (200, 30, 30)
        >>> boxes, _ = propose(page)
        >>> [10.0, 20.0, 40.0, 40.0] in boxes.tolist()
        True
    """
    from skimage.color import rgb2hsv, rgb2lab
    from skimage.segmentation import felzenszwalb

    rng = np.random.default_rng(list(hashlib.sha256(pixels.tobytes()).digest()[:8]))
    spaces = {"lab": rgb2lab(pixels) / 100, "hsv": rgb2hsv(pixels)}
    ranks: dict[tuple[int, ...], float] = {}
    for space, scale, texture in WAYS:
        image = spaces[space]
        labels = felzenszwalb(image, scale=scale, sigma=0.8, min_size=MIN_REGION)
        boxes = group(image, labels, texture=texture)[::-1]
        luck = rng.random(len(boxes)) * np.arange(1, len(boxes) + 1)
        for box, rank in zip(map(tuple, boxes.tolist()), luck.tolist(), strict=True):
            ranks[box] = min(rank, ranks.get(box, np.inf))
    kept = [
        box
        for box in sorted(ranks, key=lambda box: (ranks[box], box))
        if min(box[2] - box[0], box[3] - box[1]) >= MIN_SIDE
    ][:most]
    corners = np.array(kept, np.float64).reshape(-1, 4)
    scores = 1 - np.arange(len(kept)) / max(len(kept), 1)
    return np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1), scores


def propose_files(images: Sequence[tuple[int, Path]], most: int = MOST) -> list[Record]:
    """Propose boxes for pictures (id and file), as records of COCO's results."""
    records: list[Record] = []
    for number, path in images:
        pixels = np.asarray(_read(path))
        boxes, scores = propose(pixels, most)
        records += [
            {"image_id": number, "bbox": box, "score": round(score, 6)}
            for box, score in zip(boxes.tolist(), scores.tolist(), strict=True)
        ]
    return records


def propose_for(pictures: Sequence[Path], out: Path) -> int:
    """Propose boxes for any pictures, and return how many boxes there are.

    Args:
        pictures: files, and folders that are searched with their sub-folders.
        out: folder to make; gets ``images.json``, the pictures with their ids from 1, and
            ``proposals.json``, in COCO's layout of results.

    Raises:
        UserError: there is no picture, one cannot be read, or a package is missing.
    """
    require_extra(["skimage.segmentation"], "detection", "scenes --proposals-for")
    images: list[Record] = []
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    notes: list[str] = []
    names = list_pictures(pictures, notes)
    tell(notes)
    if odd := [name for name in names if name.encode("utf-8", "replace").decode() != name]:
        raise UserError(f"{some(odd)}: names in JSON are UTF-8; rename it")
    for number, name in enumerate(names, 1):
        width, height = _read(Path(name)).size
        images.append({"id": number, "file_name": str(name), "width": width, "height": height})
    records = propose_files([(one["id"], Path(one["file_name"])) for one in images])
    write_json(out / "images.json", {"images": images})
    write_json(out / "proposals.json", records)
    return len(records)


def _read(path: Path) -> Image.Image:
    try:
        return read_image(path, str(path), "clip")
    except UnreadableImage as error:
        raise UserError(f"cannot read the picture {error}") from error


def found_by(
    annotations: Sequence[Mapping[str, Any]],
    proposals: Sequence[Mapping[str, Any]],
    iou: float = 0.5,
) -> Bool[np.ndarray, "objects"]:
    """Say of every annotated object whether a proposal overlaps it; the mean is the recall."""
    by_image: dict[int, list[list[float]]] = {}
    for record in proposals:
        by_image.setdefault(record["image_id"], []).append(record["bbox"])
    found = np.zeros(len(annotations), bool)
    for row, one in enumerate(annotations):
        boxes = np.array(by_image.get(one["image_id"], []), np.float64).reshape(-1, 4)
        found[row] = overlaps(np.array([one["bbox"]], np.float64), boxes).max(initial=0.0) >= iou
    return found
