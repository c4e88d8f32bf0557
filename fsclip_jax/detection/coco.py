"""Boxes on disk: data sets in the layout of COCO and LVIS, and results in that of COCO.

Everything that is read is checked: what a file says of itself is never trusted, and whatever is
wrong with it is one line.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from fsclip_jax.durable import storage_errors, write_file
from fsclip_jax.errors import UserError
from fsclip_jax.typing import Float

Frequency: TypeAlias = Literal["r", "c", "f"]
"""How many images of LVIS's training set show a category: 1-10, 11-100, more."""

_LARGEST_ID = 2**53


class Picture(NamedTuple):
    """An image of a data set.

    Attributes:
        id: its number.
        file_name: path below the folder of images, with ``/`` between its parts.
        width: in pixels.
        height: in pixels.
        absent: LVIS: categories that were looked for and are not there.
        partly: LVIS: categories of which not every object is annotated.
    """

    id: int
    file_name: str
    width: int
    height: int
    absent: frozenset[int] = frozenset()
    partly: frozenset[int] = frozenset()


class Box(NamedTuple):
    """An annotated object.

    Attributes:
        image: number of its image.
        category: number of its category.
        bbox: left, top, width, height, in pixels.
        area: of the object, in pixels.
        crowd: the box is around many of them, which are not told apart.
    """

    image: int
    category: int
    bbox: tuple[float, float, float, float]
    area: float
    crowd: bool = False


class Category(NamedTuple):
    """A class of objects.

    Attributes:
        id: its number.
        name: what it is called in a prompt.
        frequency: LVIS: how common it is.
        novel: whether it is new to what was trained, where the file says so.
    """

    id: int
    name: str
    frequency: Frequency | None = None
    novel: bool | None = None


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


class Proposals(NamedTuple):
    """Where objects may be in an image, of whatever class.

    Attributes:
        boxes: left, top, width, height, in pixels.
        scores: how much each looks like an object, 0 to 1.
    """

    boxes: Float[np.ndarray, "region 4"]
    scores: Float[np.ndarray, " region"]


def read_boxes(path: Path) -> Boxes:
    """Read annotations in the layout of COCO or LVIS.

    It is LVIS where the images have ``neg_category_ids``. A category may say ``novel``.

    Args:
        path: a JSON file with ``images``, ``annotations`` and ``categories``.

    Returns:
        The data set.

    Raises:
        UserError: the file is missing or broken, or not as it should be; the first matter is
            named.
    """
    values = _json(path)
    if not isinstance(values, dict) or any(
        not isinstance(values.get(part), list) for part in ("images", "annotations", "categories")
    ):
        raise UserError(
            f"{path} is no data set of boxes; wanted is a JSON object with the lists images, "
            "annotations and categories, as COCO and LVIS have them"
        )
    categories = [_category(path, i, value) for i, value in enumerate(values["categories"])]
    known = _unique(path, "categories", [category.id for category in categories])
    if len({category.name for category in categories}) < len(categories):
        raise UserError(f"{path}: two categories have the same name; rename one of them")
    federated = any(isinstance(v, dict) and "neg_category_ids" in v for v in values["images"])
    pictures = [_picture(path, i, v, known, federated) for i, v in enumerate(values["images"])]
    images = _unique(path, "images", [picture.id for picture in pictures])
    for part in ("frequency", "novel"):
        told = [getattr(category, part) is None for category in categories]
        if any(told) and not all(told):
            raise UserError(f"{path}: some categories have {part!r} and some have not; give all")
    boxes = [_box(path, i, v, images, known) for i, v in enumerate(values["annotations"])]
    for kind, some in (("images", pictures), ("categories", categories)):
        if not some:
            raise UserError(f"{path} has no {kind}; nothing can be detected")
    by_number = tuple(sorted(categories, key=lambda category: category.id))
    return Boxes(str(path), tuple(pictures), tuple(boxes), by_number, federated)


def read_proposals(path: Path, pictures: Iterable[Picture]) -> dict[int, Proposals]:
    """Read proposals in the layout of COCO's results: ``[{image_id, bbox, score}, ...]``.

    Args:
        path: a JSON file.
        pictures: images they may belong to.

    Returns:
        Proposals by the number of the image, the best first; none for images without.

    Raises:
        UserError: the file is missing or broken, or not as it should be.
    """
    values = _json(path)
    if not isinstance(values, list):
        raise UserError(
            f"{path} holds no proposals; wanted is a JSON list of objects with image_id, bbox and "
            "score"
        )
    found: dict[int, list[tuple[float, tuple[float, ...]]]] = {p.id: [] for p in pictures}
    for i, value in enumerate(values):
        where = f"{path}: proposal {i}"
        if not isinstance(value, dict):
            raise UserError(f"{where} is no JSON object")
        image = _whole(where, value, "image_id")
        if image not in found:
            raise UserError(f"{where} is of image {image}, which the annotations do not have")
        score: Any = value.get("score")
        if not _is_number(score) or not 0 <= score <= 1:
            raise UserError(
                f"{where} has the score {_shown(score)}; wanted is a number from 0 to 1"
            )
        found[image].append((float(score), _bbox(where, value)))
    return {image: _proposals(some) for image, some in found.items()}


def _proposals(some: Sequence[tuple[float, tuple[float, ...]]]) -> Proposals:
    best = sorted((each for each in some if min(each[1][2:]) > 0), key=lambda each: -each[0])
    return Proposals(
        np.array([box for _, box in best], np.float32).reshape(-1, 4),
        np.array([score for score, _ in best], np.float32),
    )


def write_results(path: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """Write detections in the layout of COCO's results, one a line; whole or not at all.

    Args:
        path: the file.
        results: objects with ``image_id``, ``category_id``, ``bbox`` and ``score``.

    Raises:
        UserError: the place cannot be written.
    """
    lines = ",\n".join(json.dumps(result, separators=(",", ":")) for result in results)
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, f"[\n{lines}\n]\n".encode() if lines else b"[]\n")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}; give an existing file"
        ) from error
    except (ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} is no JSON ({reason}); make or download it again") from error


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= _LARGEST_ID  # nor is it NaN or infinite


def _whole(where: str, value: Mapping[str, Any], name: str, least: int = 0) -> int:
    number = value.get(name)
    if isinstance(number, float) and number.is_integer():  # some writers know no whole numbers
        number = int(number)
    if isinstance(number, bool) or not isinstance(number, int):
        raise UserError(f"{where} has {name} {_shown(number)}; wanted is a whole number")
    if not least <= number <= _LARGEST_ID:
        raise UserError(f"{where} has {name} {_shown(number)}; wanted is {least} or more")
    return number


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print whole numbers of thousands of digits
        text = "a huge number"
    return text if len(text) <= 60 else text[:57] + "..."


def _bbox(where: str, value: Mapping[str, Any]) -> tuple[float, float, float, float]:
    bbox = value.get("bbox")
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(_is_number(v) for v in bbox):
        raise UserError(
            f"{where} has the bbox {_shown(bbox)}; wanted are 4 numbers: left, top, width, height"
        )
    left, top, width, height = (float(v) for v in bbox)
    if width < 0 or height < 0:
        raise UserError(f"{where} has a bbox of negative size {_shown(bbox)}; wanted is 0 or more")
    return left, top, width, height


def _category(path: Path, i: int, value: Any) -> Category:
    where = f"{path}: category {i}"
    if not isinstance(value, dict):
        raise UserError(f"{where} is no JSON object")
    name, frequency, novel = value.get("name"), value.get("frequency"), value.get("novel")
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"{where} has the name {_shown(name)}; wanted is a text")
    if frequency not in (None, "r", "c", "f"):
        raise UserError(f"{where} has the frequency {_shown(frequency)}; wanted is r, c or f")
    if not isinstance(novel, bool | None):
        raise UserError(f"{where} has novel {_shown(novel)}; wanted is true or false")
    return Category(_whole(where, value, "id"), name, frequency, novel)


def _picture(path: Path, i: int, value: Any, known: set[int], federated: bool) -> Picture:
    where = f"{path}: image {i}"
    if not isinstance(value, dict):
        raise UserError(f"{where} is no JSON object")
    name = value.get("file_name")
    if name is None and isinstance(value.get("coco_url"), str):  # LVIS 1.0
        name = "/".join(value["coco_url"].split("/")[-2:])
    if not isinstance(name, str) or not _is_below(name):
        raise UserError(
            f"{where} has the file_name {_shown(name)}; wanted is a path below the folder of images"
        )
    absent, partly = (
        _known(where, value, part, known) if federated else frozenset()
        for part in ("neg_category_ids", "not_exhaustive_category_ids")
    )
    width, height = (_whole(where, value, part, 1) for part in ("width", "height"))
    return Picture(_whole(where, value, "id"), name, width, height, absent, partly)


def _is_below(name: str) -> bool:
    path = PurePosixPath(name)
    bad = path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name
    return bool(path.name) and not bad


def _known(where: str, value: Mapping[str, Any], part: str, known: set[int]) -> frozenset[int]:
    some = value.get(part)
    if not isinstance(some, list) or not all(type(v) is int and v in known for v in some):
        raise UserError(f"{where} has {part} {_shown(some)}; wanted is a list of known categories")
    return frozenset(some)


def _box(path: Path, i: int, value: Any, images: set[int], known: set[int]) -> Box:
    where = f"{path}: annotation {i}"
    if not isinstance(value, dict):
        raise UserError(f"{where} is no JSON object")
    image, category = _whole(where, value, "image_id"), _whole(where, value, "category_id")
    for kind, number, some in (("image", image, images), ("category", category, known)):
        if number not in some:
            raise UserError(f"{where} is of {kind} {number}, which the file does not have")
    bbox = _bbox(where, value)
    area, crowd = value.get("area", bbox[2] * bbox[3]), value.get("iscrowd", 0)
    if not _is_number(area) or area < 0:
        raise UserError(f"{where} has the area {_shown(area)}; wanted is 0 or more")
    if crowd not in (0, 1) or isinstance(crowd, float):
        raise UserError(f"{where} has iscrowd {_shown(crowd)}; wanted is 0 or 1")
    return Box(image, category, bbox, float(area), bool(crowd))


def _unique(path: Path, kind: str, numbers: Sequence[int]) -> set[int]:
    seen: set[int] = set()
    for number in numbers:
        if number in seen:
            raise UserError(f"{path}: two {kind} have the id {number}; every id is given once")
        seen.add(number)
    return seen
