"""Boxes that may hold a thing, for any picture, from the picture alone.

Selective search: over-segment, group the regions bottom up, keep the box of every region that ever
was; and do so in several ways, for no single way suits all pictures. It is our own because no
package that is needed anyhow has it.

Source: Uijlings et al., Selective Search for Object Recognition, IJCV 2013.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from fsclip_jax import __version__
from fsclip_jax.data.boxes import overlaps
from fsclip_jax.data.folder import list_pictures
from fsclip_jax.data.left_out import Passed, passed_over
from fsclip_jax.data.masks import Record
from fsclip_jax.data.pictures import read_image
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.durable import only_writer, write_json
from fsclip_jax.errors import UserError, require_extra, say, some, tell
from fsclip_jax.interim import Interim, content_sum
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

MOST_PIXELS = 2**20
"""A picture of more is made smaller first: what is kept of a pixel adds up to some 900 bytes."""

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


def propose_files(
    images: Sequence[tuple[int, Path]], interim: Interim, most: int = MOST
) -> list[Record]:
    """Propose boxes for pictures (id and file), as records of COCO's results.

    Those of a picture are kept under its id.
    """
    records: list[Record] = []
    for number, path in images:
        records += interim.value(f"boxes of {number}", partial(_propose_file, number, path, most))
    return records


def _propose_file(number: int, path: Path, most: int) -> list[Record]:
    try:
        image = read_image(path, str(path), "clip")
    except UnreadableImage as error:  # it was there when the run began
        raise UserError(f"cannot read the picture {error}; run the same command again") from error
    small = image
    if image.width * image.height > MOST_PIXELS:
        shrink = math.sqrt(MOST_PIXELS / (image.width * image.height))
        sides = [max(1, int(side * shrink)) for side in image.size]
        small = image.resize((sides[0], sides[1]), Image.Resampling.BOX)
    boxes, scores = propose(np.asarray(small), most)
    boxes *= np.tile(np.divide(image.size, small.size), 2)
    return [
        {"image_id": number, "bbox": box, "score": round(score, 6)}
        for box, score in zip(boxes.tolist(), scores.tolist(), strict=True)
    ]


def propose_for(pictures: Sequence[Path], out: Path) -> int:
    """Propose boxes for any pictures, and return how many boxes there are.

    A picture that cannot be read is left out and named.

    Args:
        pictures: files, and folders that are searched with their sub-folders.
        out: folder to make; gets ``images.json``, the pictures with their ids from 1, and
            ``proposals.json``, in COCO's layout of results.

    Raises:
        UserError: there is no picture that can be read, another run writes there, or a package is
            missing.
    """
    require_extra(["skimage.segmentation"], "detection", "scenes --proposals-for")
    images: list[Record] = []
    passed: Passed = {}
    names = list_pictures(pictures, passed)
    tell(passed_over(passed))
    if odd := [name for name in names if name.encode("utf-8", "replace").decode() != name]:
        raise UserError(f"{some(odd)}: names in JSON are UTF-8; rename it")
    with only_writer(out, ".scenes.lock", "proposes boxes", "--out"):
        broken = []
        for name in names:
            try:
                width, height = read_image(Path(name), name, "clip").size
            except UnreadableImage as error:
                broken.append(" ".join(str(error).split()))
                continue
            size = {"width": width, "height": height}
            images.append({"id": len(images) + 1, "file_name": name, **size})
        if not images:
            raise UserError(f"no picture can be read: {some(broken)}; give others")
        if broken:
            tell([f"{len(broken)} pictures cannot be read and are left out: {some(broken)}"])
        files = [Path(one["file_name"]) for one in images]
        made_with = {"version": __version__, "images": images, "content": content_sum(files)}
        interim = Interim(out / ".scenes.interim", made_with, say)
        records = propose_files([(one["id"], Path(one["file_name"])) for one in images], interim)
        write_json(out / "images.json", {"images": images})
        write_json(out / "proposals.json", records)
        interim.finish()
    return len(records)


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
