"""Boxes on disk: data sets in the layout of COCO and LVIS, and results in that of COCO.

What a file says of itself is never trusted: every value has its type and its bounds, and whatever
is wrong is one line that names the place within the file.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from fsclip_jax.durable import storage_errors, write_file
from fsclip_jax.errors import UserError
from fsclip_jax.json_files import read_layout
from fsclip_jax.printable import printable
from fsclip_jax.typing import Float

_LARGEST = 2**53
_WHERE: TypeAlias = Annotated[float, Meta(ge=-_LARGEST, le=_LARGEST)]
_SIZE: TypeAlias = Annotated[float, Meta(ge=0, le=_LARGEST)]
_Bbox: TypeAlias = tuple[_WHERE, _WHERE, _SIZE, _SIZE]

if TYPE_CHECKING:
    Number = int
    Side = int
else:  # some writers know no whole numbers: 3.0 is read as 3
    Number = Annotated[int, Meta(ge=0, le=_LARGEST)] | Annotated[float, Meta(ge=0, le=_LARGEST)]
    Side = Annotated[int, Meta(ge=1, le=_LARGEST)] | Annotated[float, Meta(ge=1, le=_LARGEST)]


class _Record(Struct, frozen=True):
    def __post_init__(self) -> None:
        for name in ("id", "image", "category", "width", "height"):
            value = getattr(self, name, None)
            if isinstance(value, float):
                if not value.is_integer():
                    raise ValueError(f"Expected a whole number for `{name}`, got {value}")
                force_setattr(self, name, int(value))


class Picture(_Record, frozen=True):
    """An image of a data set."""

    id: Number
    width: Side
    """In pixels."""
    height: Side
    """In pixels."""
    file_name: str = ""
    """Path below the folder of images, with ``/`` between its parts."""
    coco_url: str = ""
    """LVIS 1.0: stands for a file name that is not there."""
    absent: frozenset[int] | None = field(default=None, name="neg_category_ids")
    """LVIS: categories that were looked for and are not there."""
    partly: frozenset[int] | None = field(default=None, name="not_exhaustive_category_ids")
    """LVIS: categories of which not every object is annotated."""

    def __post_init__(self) -> None:
        """Refuse a path that leads out of the folder of images."""
        super().__post_init__()
        name = self.file_name or "/".join(self.coco_url.split("/")[-2:])
        force_setattr(self, "file_name", name)
        path = PurePosixPath(name)
        if not path.name or path.is_absolute() or ".." in path.parts or {"\\", "\0"} & {*name}:
            raise ValueError(f"Expected a `file_name` below the folder of images, got {name!r:.60}")


class Box(_Record, frozen=True):
    """An annotated object."""

    image: Number = field(name="image_id")
    category: Number = field(name="category_id")
    bbox: _Bbox
    """Left, top, width, height, in pixels."""
    area: _SIZE = -1.0
    """Of the object, in pixels; that of its box where the file does not say."""
    crowd: Literal[0, 1] | bool = field(default=False, name="iscrowd")
    """The box is around many of them, which are not told apart."""

    def __post_init__(self) -> None:
        """Fill in the area."""
        super().__post_init__()
        if self.area < 0:
            force_setattr(self, "area", self.bbox[2] * self.bbox[3])


class Category(_Record, frozen=True):
    """A class of objects."""

    id: Number
    name: Annotated[str, Meta(pattern=r"\S")]
    """What it is called in a prompt."""
    frequency: Literal["r", "c", "f"] | None = None
    """LVIS: how many images of its training set show it: 1-10, 11-100, more."""
    novel: bool | None = None
    """Whether it is new to what was trained, where the file says so."""

    def __post_init__(self) -> None:
        """Make the name printable."""
        super().__post_init__()
        force_setattr(self, "name", printable(self.name))


AnyBox = TypeVar("AnyBox", bound=Box)


class _File(Struct, Generic[AnyBox]):
    images: list[Picture]
    annotations: list[AnyBox]
    categories: list[Category]


@dataclass(frozen=True)
class Boxes:
    """A data set of annotated boxes."""

    source: str
    """The file, for messages."""
    pictures: tuple[Picture, ...]
    """In the order of the file."""
    boxes: tuple[Box, ...]
    """In the order of the file."""
    categories: tuple[Category, ...]
    """In the order of their numbers."""
    federated: bool
    """LVIS: an image is judged only by the categories that are known of it."""


def read_boxes(path: Path, record: type[Box] = Box) -> Boxes:
    """Read annotations in the layout of COCO or LVIS.

    It is LVIS where the images have ``neg_category_ids``. A category may say ``novel``. ``record``
    is what an annotation is read as; it may ask for more than its box.

    Raises:
        UserError: the file is missing or broken, or not as it should be; the first matter is
            named.
    """
    wanted = "a JSON object with images, annotations and categories, as COCO and LVIS have them"
    file = read_layout(path, _File[record], "data set of boxes", wanted)  # type: ignore[valid-type]
    for kind, some in (("images", file.images), ("categories", file.categories)):
        if not some:
            raise UserError(f"{path} has no {kind}; nothing can be detected")
    images = _unique(path, "images", [picture.id for picture in file.images])
    known = _unique(path, "categories", [category.id for category in file.categories])
    if len({category.name for category in file.categories}) < len(file.categories):
        raise UserError(f"{path}: two categories have the same name; rename one of them")
    for part in ("frequency", "novel"):
        unsaid = [getattr(category, part) is None for category in file.categories]
        if any(unsaid) and not all(unsaid):
            raise UserError(f"{path}: some categories have {part!r} and some have not; give all")
    for i, box in enumerate(file.annotations):
        places = (("image", box.image, images), ("category", box.category, known))
        for kind, number, there in places:
            if number not in there:
                raise UserError(
                    f"{path}: annotation {i} is of {kind} {number}, which the file does not have"
                )
    federated = any(picture.absent is not None for picture in file.images)
    for i, picture in enumerate(file.images if federated else ()):
        if not all(some is not None and some <= known for some in (picture.absent, picture.partly)):
            raise UserError(
                f"{path}: image {i} lacks neg_category_ids or not_exhaustive_category_ids, or they "
                "hold other numbers than the categories'; give both lists for every image"
            )
    by_number = tuple(sorted(file.categories, key=lambda category: category.id))
    return Boxes(str(path), tuple(file.images), tuple(file.annotations), by_number, federated)


def _unique(path: Path, kind: str, numbers: Sequence[int]) -> set[int]:
    seen: set[int] = set()
    for number in numbers:
        if number in seen:
            raise UserError(f"{path}: two {kind} have the id {number}; every id is given once")
        seen.add(number)
    return seen


def without_pictures(data: Boxes, left_out: Collection[int]) -> Boxes:
    """Leave out pictures by their ids, with all that is annotated in them."""
    return replace(
        data,
        pictures=tuple(one for one in data.pictures if one.id not in left_out),
        boxes=tuple(box for box in data.boxes if box.image not in left_out),
    )


class Proposals(NamedTuple):
    """Where objects may be in an image, of whatever class."""

    boxes: Float[np.ndarray, "region 4"]
    """Left, top, width, height, in pixels."""
    scores: Float[np.ndarray, " region"]
    """How much each looks like an object, 0 to 1."""


class _Proposal(_Record, frozen=True):
    image: Number = field(name="image_id")
    bbox: _Bbox
    score: Annotated[float, Meta(ge=0, le=1)]


def read_proposals(path: Path, pictures: Iterable[Picture]) -> dict[int, Proposals]:
    """Read proposals in the layout of COCO's results: ``[{image_id, bbox, score}, ...]``.

    Raises:
        UserError: the file is missing or broken, or not as it should be.
    """
    wanted = "a JSON list of objects with image_id, bbox and score"
    found: dict[int, list[_Proposal]] = {picture.id: [] for picture in pictures}
    for i, one in enumerate(read_layout(path, list[_Proposal], "list of proposals", wanted)):
        if one.image not in found:
            raise UserError(
                f"{path}: proposal {i} is of image {one.image}, which the annotations do not have"
            )
        if min(one.bbox[2:]) > 0:
            found[one.image].append(one)
    return {image: _proposals(some) for image, some in found.items()}


def _proposals(some: Sequence[_Proposal]) -> Proposals:
    best = sorted(some, key=lambda one: -one.score)
    return Proposals(
        np.array([one.bbox for one in best], np.float32).reshape(-1, 4),
        np.array([one.score for one in best], np.float32),
    )


def write_results(path: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """Write detections in the layout of COCO's results, one a line; whole or not at all.

    Raises:
        UserError: the place cannot be written.
    """
    lines = ",\n".join(json.dumps(result, separators=(",", ":")) for result in results)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, f"[\n{lines}\n]\n".encode() if lines else b"[]\n")
