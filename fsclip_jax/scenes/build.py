"""Build the scenes task: pictures, boxes, masks and support, in COCO's format.

Splits differ in who drew what is in them (see ``roster``):

=========  ==================  ===============  ================================
split      classes             artists          use
=========  ==================  ===============  ================================
train      base                train families   to train on
val        base                val family       to choose settings on
test       base and novel      test families    to measure, once
support    base and novel      train families   a few labelled objects a class
=========  ==================  ===============  ================================
"""

import io
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fsclip_jax import __version__
from fsclip_jax.data.masks import Record, box_of, encode_mask
from fsclip_jax.durable import continued_folder, storage_errors, write_file, write_json
from fsclip_jax.errors import UserError, require_extra
from fsclip_jax.errors import say as say_line
from fsclip_jax.interim import Interim
from fsclip_jax.scenes.compose import SCENE_SIZE, Placed, Scene, compose
from fsclip_jax.scenes.proposals import found_by, propose_files
from fsclip_jax.scenes.roster import PER_HALF, Drawing, Thing, choose_things

SCENE_SPLITS = ("train", "val", "test", "support")
"""Splits, in the order of their random streams."""

OBJECTS = (3, 7)
"""Least and largest number of objects in a scene."""

PER_DRAWING = 2
"""How often the support shows each drawing of a class: twice four artists, eight objects."""

_SUPPORT_OBJECTS = 4
_INTERIM = ".interim"


@dataclass(frozen=True)
class Dealt:
    """An object to be placed: a drawing, and the id of its class."""

    category: int
    drawing: Drawing


def deal(rng: np.random.Generator, things: Sequence[Thing], split: str) -> Iterator[Dealt]:
    """Deal objects without end: every class in turn, in a new order each round.

    A drawing is chosen by its artist first, so that an artist with many renderings of one drawing
    counts once. Novel classes are left out unless the split is ``test``.
    """
    usable = [n for n, thing in enumerate(things) if split == "test" or not thing.novel]
    while True:
        for number in rng.permutation(usable).tolist():
            drawings = things[number].drawings[split]
            families = sorted({one.family for one in drawings})
            family = families[int(rng.integers(len(families)))]
            of_family = [one for one in drawings if one.family == family]
            yield Dealt(number + 1, of_family[int(rng.integers(len(of_family)))])


def draw_split(
    things: Sequence[Thing], split: str, images: int, seed: int
) -> Iterator[tuple[Scene, list[Dealt]]]:
    """Draw ``images`` scenes of a split; of the support as many as its objects need."""
    which = SCENE_SPLITS.index(split)
    dealing = np.random.default_rng((seed, which))
    if split == "support":
        waiting = [
            Dealt(number, drawing)
            for number, thing in enumerate(things, 1)
            for drawing in thing.drawings["train"]
            for _ in range(PER_DRAWING)
        ]
        queue = [waiting[n] for n in dealing.permutation(len(waiting)).tolist()]
        for count in itertools.count():
            if not queue:
                return
            items, queue = queue[:_SUPPORT_OBJECTS], queue[_SUPPORT_OBJECTS:]
            scene, shown = _draw(items, (seed, which, count))
            placed = {one.item for one in scene.objects}
            queue += [item for n, item in enumerate(items) if n not in placed]
            yield scene, shown
    dealt = deal(dealing, things, split)
    for count in range(images):
        size = int(dealing.integers(OBJECTS[0], OBJECTS[1] + 1))
        yield _draw(list(itertools.islice(dealt, size)), (seed, which, count))


def _draw(items: Sequence[Dealt], seed: tuple[int, ...]) -> tuple[Scene, list[Dealt]]:
    scene = compose(np.random.default_rng(seed), [item.drawing.art for item in items])
    return scene, [items[one.item] for one in scene.objects]


def write_split(
    folder: Path, things: Sequence[Thing], split: str, images: int, seed: int
) -> Record:
    """Draw a split, write ``SPLIT/images``, ``masks/SPLIT`` and ``SPLIT.json``, return the last."""
    pictures, masks = folder / split / "images", folder / "masks" / split
    pictures.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    records: list[Record] = []
    objects: list[Record] = []
    palette = np.random.default_rng(0).integers(64, 256, (256, 3))
    palette[0] = 0
    for number, (scene, shown) in enumerate(draw_split(things, split, images, seed), 1):
        name = f"{number:06d}.png"
        write_png(pictures / name, scene.pixels)
        labels = np.zeros(scene.pixels.shape[:2], np.uint8)
        for one, item in zip(scene.objects, shown, strict=True):
            labels[one.mask] = item.category
            objects.append({"id": len(objects) + 1, "image_id": number, **_record(one, item)})
        write_png(masks / name, labels, palette.ravel().tolist())
        records.append({"id": number, "file_name": name, "width": SCENE_SIZE, "height": SCENE_SIZE})
    whole = {
        "info": {"description": f"fsclip scenes, {split}", "seed": seed, "version": "1"},
        "images": records,
        "annotations": objects,
        "categories": [
            {"id": number, "name": thing.name, "novel": thing.novel, "supercategory": "emoji"}
            for number, thing in enumerate(things, 1)
        ],
    }
    write_json(folder / f"{split}.json", whole)
    return whole


def _record(placed: Placed, item: Dealt) -> Record:
    """COCO's annotation of an object, box and area of what is visible of it."""
    mask = placed.mask
    return {
        "category_id": item.category,
        "bbox": box_of(mask),
        "area": float(mask.sum()),
        "segmentation": encode_mask(mask),
        "iscrowd": 0,
        "family": item.drawing.family,
        "key": item.drawing.key,
        "visible": round(float(mask.sum()) / placed.whole, 4),
    }


def write_png(
    path: Path, pixels: UInt8[np.ndarray, "..."], palette: Sequence[int] | None = None
) -> None:
    """Write a picture, or with a palette a picture of class indices; whole or absent."""
    image = Image.fromarray(pixels)
    if palette is not None:
        image = Image.fromarray(pixels, "P")
        image.putpalette(list(palette))
    stream = io.BytesIO()
    image.save(stream, "png")
    write_file(path, stream.getvalue())


def write_proposals(folder: Path, split: str, whole: Record, interim: Interim) -> Record:
    """Propose boxes for a split from its pictures, and write ``proposals_SPLIT.json``.

    The objects in ``whole``, which is what ``SPLIT.json`` holds, serve to measure the recall only:
    the part of them that a proposal overlaps by a half or more.
    """
    pictures = folder / split / "images"
    files = [(one["id"], pictures / one["file_name"]) for one in whole["images"]]
    records = propose_files(files, interim.within(split))
    write_json(folder / f"proposals_{split}.json", records)
    recall = float(found_by(whole["annotations"], records).mean())
    return {"proposals": len(records), "recall": round(recall, 4)}


def _empty(folder: Path) -> None:
    for other in folder.iterdir():
        shutil.rmtree(other) if other.is_dir() else other.unlink()


def build_scenes(
    out: Path,
    *,
    seed: int = 0,
    images: int = 160,
    per_half: int = PER_HALF,
    say: Callable[[str, Record], None] | None = None,
) -> Record:
    """Build the task in a folder, which appears when it is finished; a killed build goes on.

    Args:
        seed: the same seed gives the same files, bit for bit.
        images: scenes of ``test``; ``train`` and ``val`` have half as many.

    Returns:
        For every split its number of ``images``, ``objects`` and ``proposals``, and the ``recall``
        of these.

    Raises:
        UserError: the folder holds something, cannot be written, or a package is missing.
    """
    require_extra(["pycocotools.mask", "skimage.segmentation"], "detection", "scenes")
    if images < 2:
        raise UserError(f"--images is {images}; give 2 or more")
    if seed < 0:
        raise UserError(f"--seed is {seed}; give 0 or more")
    summary: Record = {}
    made_with = {"version": __version__, "seed": seed, "images": images, "per_half": per_half}
    with continued_folder(out, "is making scenes") as folder:
        things = choose_things(per_half)
        interim = Interim(folder / _INTERIM, made_with, say_line, partial(_empty, folder))
        for split in SCENE_SPLITS:
            count = images if split == "test" else (images + 1) // 2
            with storage_errors(folder):
                whole = interim.value(
                    f"objects of {split}", partial(write_split, folder, things, split, count, seed)
                )
            summary[split] = {"images": len(whole["images"]), "objects": len(whole["annotations"])}
            if split != "support":
                summary[split] |= write_proposals(folder, split, whole, interim)
            if say is not None:
                say(split, summary[split])
        interim.finish()
    return summary
