"""A folder of scenes, as ``fsclip scenes`` writes it: pictures, class indices, support objects."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from PIL import Image

from fsclip_jax.errors import UserError


@dataclass(frozen=True)
class Classes:
    """The classes of a scenes folder.

    Attributes:
        ids: COCO's number of each; the masks hold these.
        names: of each.
        novel: whether each is novel.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]
    novel: tuple[bool, ...]


@dataclass(frozen=True)
class Annotated:
    """One split of a scenes folder.

    Attributes:
        name: of the split.
        folder: of the scenes.
        images: COCO's records of the pictures.
        objects: COCO's annotations.
        classes: the classes.
    """

    name: str
    folder: Path
    images: tuple[dict[str, Any], ...]
    objects: tuple[dict[str, Any], ...]
    classes: Classes

    def picture(self, index: int) -> Image.Image:
        """Open a picture."""
        path = self.folder / self.name / "images" / str(self.images[index]["file_name"])
        return _open(path).convert("RGB")

    def truth(self, index: int) -> Int[np.ndarray, "height width"]:
        """Return the class of every pixel: 0 is background, the first class is 1."""
        name = Path(str(self.images[index]["file_name"])).with_suffix(".png")
        path = self.folder / "masks" / self.name / name
        numbers = np.asarray(_open(path))
        lookup = np.full(max(256, max(self.classes.ids) + 1), -1, np.int32)
        lookup[[0, *self.classes.ids]] = np.arange(len(self.classes.ids) + 1)
        if numbers.ndim != 2 or numbers.max() >= len(lookup) or (lookup[numbers] < 0).any():
            raise UserError(f"{path} holds values that are no category id; build the scenes again")
        return lookup[numbers]


def read_split(folder: Path, name: str) -> Annotated:
    """Read a split of a scenes folder.

    Args:
        folder: made by ``fsclip scenes``.
        name: ``train``, ``val``, ``test`` or ``support``.

    Returns:
        The split; pictures are opened later.

    Raises:
        UserError: the folder is none, or its file is damaged.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; give a folder made by `fsclip scenes --out DIR`")
    try:
        whole = json.loads(path.read_text("utf-8"))
        classes = Classes(
            tuple(int(one["id"]) for one in whole["categories"]),
            tuple(str(one["name"]) for one in whole["categories"]),
            tuple(bool(one["novel"]) for one in whole["categories"]),
        )
        images = tuple(whole["images"])
        objects = tuple(whole["annotations"])
        known = {int(image["id"]) for image in images}
        whole_records = all(
            one["image_id"] in known and one["category_id"] in classes.ids and one["segmentation"]
            for one in objects
        )
        if not whole_records or not images or min(classes.ids) < 1:
            raise ValueError("records do not fit each other")
        if not all(isinstance(image["file_name"], str) for image in images):
            raise ValueError("a file_name is no text")
    except (ValueError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(
            f"{path} is no scenes file in COCO's format ({error}); build the scenes again"
        ) from error
    return Annotated(name, folder, images, objects, classes)


def draw_shots(
    objects: Sequence[dict[str, Any]], ids: Sequence[int], shots: int, seed: int
) -> Int[np.ndarray, "way shot"]:
    """Draw labelled objects of every class: as many different artists as there are, then again.

    Fewer shots of the same seed are the first ones of more shots.

    Args:
        objects: COCO annotations; ``family`` names the artist where it is known.
        ids: number of every class.
        shots: objects of a class.
        seed: of the draw.

    Returns:
        Positions in ``objects``; -1 where a class has fewer.

    Raises:
        UserError: a class has no object, or there are more shots than any class has.
    """
    counts = Counter(one["category_id"] for one in objects)
    if shots > (most := max(counts[number] for number in ids)):
        raise UserError(
            f"{shots} shots were asked for, but the support has at most {most} objects of a "
            f"category; give --shots {most} or fewer"
        )
    chosen = np.full((len(ids), shots), -1)
    for row, number in enumerate(ids):
        mine = [i for i, one in enumerate(objects) if one["category_id"] == number]
        if not mine:
            raise UserError(f"the support has no object of category {number}")
        order = np.random.default_rng((seed, number)).permutation(mine).tolist()
        seen: dict[Any, int] = {}
        rounds = []
        for i in order:
            family = objects[i].get("family")
            rounds.append(seen.get(family, 0))
            seen[family] = rounds[-1] + 1
        ranked = [i for _, _, i in sorted(zip(rounds, range(len(order)), order, strict=True))]
        chosen[row, : len(ranked[:shots])] = ranked[:shots]
    return chosen


def _open(path: Path) -> Image.Image:
    try:
        image = Image.open(path)
        image.load()
    except (OSError, Image.DecompressionBombError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return image
