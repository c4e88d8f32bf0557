"""A folder of scenes, as ``fsclip scenes`` writes it: pictures, class indices, support objects."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from jaxtyping import Int
from msgspec import field
from PIL import Image

from fsclip_jax.data.coco_files import Box, Picture, Side, read_boxes
from fsclip_jax.errors import UserError, some, tell
from fsclip_jax.pixels import open_image, require_regular, to_rgb


class RunLengths(TypedDict):
    """A mask as ``data.masks`` encodes it."""

    size: tuple[Side, Side]
    counts: str


class MaskedBox(Box, frozen=True, kw_only=True):
    """An annotated object whose pixels are known."""

    mask: RunLengths = field(name="segmentation")
    family: str | int | None = None
    """Who drew it, where that is known."""


@dataclass(frozen=True)
class Classes:
    """The classes of a scenes folder."""

    ids: tuple[int, ...]
    """COCO's number of each; the masks hold these."""
    names: tuple[str, ...]
    novel: tuple[bool, ...]


@dataclass(frozen=True)
class Annotated:
    """One split of a scenes folder."""

    name: str
    folder: Path
    images: tuple[Picture, ...]
    objects: tuple[MaskedBox, ...]
    classes: Classes

    def files(self, index: int) -> tuple[Path, Path]:
        """Return the files of a picture and of its mask."""
        name = Path(self.images[index].file_name)
        mask = self.folder / "masks" / self.name / name.with_suffix(".png")
        return self.folder / self.name / "images" / name, mask

    def picture(self, index: int) -> Image.Image:
        """Open a picture."""
        return to_rgb(_open(self.files(index)[0]), on_white=False)

    def truth(self, index: int) -> Int[np.ndarray, "height width"]:
        """Return the class of every pixel: 0 is background, the first class is 1."""
        path = self.files(index)[1]
        numbers = np.asarray(_open(path))
        lookup = np.full(256, -1, np.int32)
        lookup[[0, *self.classes.ids]] = np.arange(len(self.classes.ids) + 1)
        if numbers.ndim != 2 or numbers.max() >= len(lookup) or (lookup[numbers] < 0).any():
            raise UserError(f"{path} holds values that are no category id; build the scenes again")
        return lookup[numbers]


def read_split(folder: Path, name: str) -> Annotated:
    """Read a split of a scenes folder; pictures are opened later.

    Raises:
        UserError: the folder is none, or its file is damaged.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise UserError(f"{path} is missing; give a folder made by `fsclip scenes --out DIR`")
    data = read_boxes(path, MaskedBox)
    ids = tuple(category.id for category in data.categories)
    if ids[0] < 1 or ids[-1] > 255 or any(one.novel is None for one in data.categories):
        raise UserError(
            f"{path} is no scenes file: wanted are category ids from 1 to 255, and of every "
            "category whether it is novel; build the scenes again"
        )
    classes = Classes(
        ids,
        tuple(one.name for one in data.categories),
        tuple(bool(one.novel) for one in data.categories),
    )
    objects = cast(tuple[MaskedBox, ...], data.boxes)
    return Annotated(name, folder, data.pictures, objects, classes)


def leave_out_unreadable(
    split: Annotated, too_large: Callable[[int, int], bool]
) -> tuple[Annotated, tuple[str, ...]]:
    """Leave pictures out that cannot be read or have no mask of their size, and say so.

    Args:
        too_large: whether a picture of this height and width is more than can be segmented.

    Returns:
        The rest, and the names of those left out, for all methods alike.

    Raises:
        UserError: there is none left.
    """
    sizes: dict[int, set[tuple[int, int]]] = {}
    for one in split.objects:
        sizes.setdefault(one.image, set()).add(one.mask["size"])
    reasons = [
        _unreadable(split, index, too_large, sizes.get(image.id, set()))
        for index, image in enumerate(split.images)
    ]
    broken = {image.id for image, why in zip(split.images, reasons, strict=True) if why}
    if not broken:
        return split, ()
    told = [why for why in reasons if why]
    if len(broken) == len(split.images):
        raise UserError(f"no picture of {split.name} can be used: {told[0]}")
    tell([f"{len(broken)} pictures of {split.name} are left out: {some(told)}"])
    rest = replace(
        split,
        images=tuple(image for image in split.images if image.id not in broken),
        objects=tuple(one for one in split.objects if one.image not in broken),
    )
    return rest, tuple(image.file_name for image in split.images if image.id in broken)


def _unreadable(
    split: Annotated,
    index: int,
    too_large: Callable[[int, int], bool],
    of_objects: set[tuple[int, int]],
) -> str:
    try:
        picture, mask = (_open(file) for file in split.files(index))
    except UserError as error:
        return str(error)
    sizes = [f"{one.width} x {one.height}" for one in (picture, mask)]
    if picture.size != mask.size:
        return f"{split.files(index)[0]} has {sizes[0]} pixels, its mask {sizes[1]}"
    if too_large(picture.height, picture.width):
        return f"{split.files(index)[0]} of {sizes[0]} pixels is too large"
    if odd := of_objects - {(picture.height, picture.width)}:
        high, wide = min(odd)
        return f"{split.files(index)[0]} has {sizes[0]} pixels, an object's mask {wide} x {high}"
    return ""


def draw_shots(
    objects: Sequence[MaskedBox], ids: Sequence[int], shots: int, seed: int
) -> Int[np.ndarray, "way shot"]:
    """Draw labelled objects of every class: as many different artists as there are, then again.

    Fewer shots of the same seed are the first ones of more shots. Positions are in ``objects``; -1
    where a class has fewer.

    Raises:
        UserError: a class has no object, or there are more shots than any class has.
    """
    counts = Counter(one.category for one in objects)
    if shots > (most := max(counts[number] for number in ids)):
        raise UserError(
            f"{shots} shots were asked for, but the support has at most {most} objects of a "
            f"category; give --shots {most} or fewer"
        )
    chosen = np.full((len(ids), shots), -1)
    for row, number in enumerate(ids):
        mine = [i for i, one in enumerate(objects) if one.category == number]
        if not mine:
            raise UserError(f"the support has no object of category {number}")
        order = np.random.default_rng((seed, number)).permutation(mine).tolist()
        seen: Counter[str | int | None] = Counter()
        rounds = []
        for i in order:
            rounds.append(seen[objects[i].family])
            seen[objects[i].family] += 1
        ranked = [i for _, _, i in sorted(zip(rounds, range(len(order)), order, strict=True))]
        chosen[row, : len(ranked[:shots])] = ranked[:shots]
    return chosen


def _open(path: Path) -> Image.Image:
    try:
        require_regular(path)
        with path.open("rb") as file, open_image(file) as image:
            image.load()
            return image
    except Exception as error:  # a broken file can raise nearly anything
        raise UserError(f"cannot read {path}: {error}") from error
