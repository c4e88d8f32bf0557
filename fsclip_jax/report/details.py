"""``details`` of a report: what a reader may want to look into, beyond the table."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

Item = TypeVar("Item")

PICTURE = re.compile(r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")
"""The only form of a picture that is taken from a report: it can neither run nor load anything."""


@dataclass(frozen=True)
class ClassChanges:
    """Accuracy of every class, and how each method changes it, in points of percent.

    Attributes:
        classes: names of the classes that were asked.
        reference: accuracy of the reference method within each class, in percent.
        change: accuracy minus the reference, by method.
    """

    classes: tuple[str, ...]
    reference: tuple[float, ...]
    change: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Confusion:
    """A class that is often taken for another one.

    Attributes:
        true: the true class.
        predicted: the class it is taken for.
        count: answers, over all draws, that do so.
        asked: answers there are for the true class.
        picture: key of an image of the true class that was taken for the other.
        predicted_picture: key of a support image of the other class.
    """

    true: str
    predicted: str
    count: int
    asked: int
    picture: str = ""
    predicted_picture: str = ""


@dataclass(frozen=True)
class Reliability:
    """Confidence against accuracy, both from 0 to 1, in the bins that hold an answer.

    Attributes:
        confidence: mean confidence of each bin.
        accuracy: share of right answers of each bin.
        count: answers of each bin, over all draws.
    """

    confidence: tuple[float, ...]
    accuracy: tuple[float, ...]
    count: tuple[int, ...]


@dataclass(frozen=True)
class Shot:
    """A support image and the share of the attention that it gets; ``picture`` is its key."""

    picture: str
    weight: float


@dataclass(frozen=True)
class Attention:
    """How the Meta-Adapter refines the text feature of one class.

    Attributes:
        name: the class.
        why: why this class is shown.
        gate: how much of what was attended to is added to the text feature, 0 to 1.
        text_weight: share of the attention that the text feature gives to itself.
        shots: the support images, the most attended first.
        before: accuracy of the reference within the class, in percent.
        after: accuracy of the Meta-Adapter within the class, in percent.
    """

    name: str
    why: str
    gate: float
    text_weight: float
    shots: tuple[Shot, ...]
    before: float
    after: float


@dataclass(frozen=True)
class Neighbour:
    """A support image close to a query.

    Attributes:
        picture: its key.
        name: its class.
        similarity: cosine to the query.
    """

    picture: str
    name: str
    similarity: float


@dataclass(frozen=True)
class Mistake:
    """An image that was classified wrong, and the support images nearest to it.

    Attributes:
        picture: its key.
        true: its class.
        predicted: the class it was taken for.
        confidence: probability that the method gave to this class.
        nearest: support images, the nearest first.
    """

    picture: str
    true: str
    predicted: str
    confidence: float
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Details:
    """A closer look at one split at one number of shots.

    Attributes:
        split: the split that is looked at.
        shots: labelled images per class: the largest number that was evaluated.
        draws: support draws that the counts are added up over.
        reference: method that changes are measured from.
        method: method whose confusions and mistakes are shown.
        changes: accuracy class by class; ``None`` without the reference.
        confusions: pairs of classes, the most frequent first.
        reliability: calibration of each method.
        attention: some classes as the Meta-Adapter sees them, in the first draw.
        attention_method: the line of the table that ``attention`` is of.
        gates: gate of every class, ascending.
        mistakes: some wrong answers of the first draw, the most confident first.
        pictures: small pictures as data URIs, by key; an image that cannot be read is not there.
    """

    split: str
    shots: int
    draws: int
    reference: str
    method: str
    changes: ClassChanges | None = None
    confusions: tuple[Confusion, ...] = ()
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    attention: tuple[Attention, ...] = ()
    attention_method: str = ""
    gates: tuple[float, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    pictures: Mapping[str, str] = field(default_factory=dict)


def details_from_tree(tree: Any) -> Details:
    """Read details from parsed JSON.

    Args:
        tree: the value of ``details`` in a report.

    Returns:
        The details. A picture that is not an inlined PNG or JPEG is left out.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: something is missing or of another kind.
    """
    changes = tree.get("changes")
    return Details(
        split=str(tree["split"]),
        shots=int(tree["shots"]),
        draws=int(tree["draws"]),
        reference=str(tree["reference"]),
        method=str(tree["method"]),
        changes=None if changes is None else _changes(changes),
        confusions=_each(tree, "confusions", _confusion),
        reliability={
            str(name): _reliability(bins) for name, bins in _mapping(tree, "reliability").items()
        },
        attention=_each(tree, "attention", _attention),
        attention_method=str(tree.get("attention_method", "")),
        gates=_floats(tree.get("gates", [])),
        mistakes=_each(tree, "mistakes", _mistake),
        pictures={
            str(key): uri
            for key, uri in _mapping(tree, "pictures").items()
            if isinstance(uri, str) and PICTURE.fullmatch(uri)
        },
    )


def _changes(tree: Mapping[str, Any]) -> ClassChanges:
    classes = tuple(map(str, _list(tree["classes"])))
    reference = _floats(tree["reference"])
    change = {str(name): _floats(each) for name, each in _mapping(tree, "change").items()}
    if {len(classes)} != {len(reference), *map(len, change.values())} or not classes:
        raise ValueError("changes are not one number a class")
    return ClassChanges(classes, reference, change)


def _confusion(tree: Mapping[str, Any]) -> Confusion:
    return Confusion(
        true=str(tree["true"]),
        predicted=str(tree["predicted"]),
        count=int(tree["count"]),
        asked=int(tree["asked"]),
        picture=str(tree.get("picture", "")),
        predicted_picture=str(tree.get("predicted_picture", "")),
    )


def _reliability(tree: Mapping[str, Any]) -> Reliability:
    bins = Reliability(
        confidence=_floats(tree["confidence"]),
        accuracy=_floats(tree["accuracy"]),
        count=tuple(map(int, _list(tree["count"]))),
    )
    if not len(bins.confidence) == len(bins.accuracy) == len(bins.count):
        raise ValueError("the bins of a reliability diagram differ in number")
    if not all(0 < count < 2**53 for count in bins.count):
        raise ValueError("a bin of a reliability diagram holds no answer")
    return bins


def _attention(tree: Mapping[str, Any]) -> Attention:
    return Attention(
        name=str(tree["name"]),
        why=str(tree["why"]),
        gate=_share(tree["gate"]),
        text_weight=_share(tree["text_weight"]),
        shots=_each(tree, "shots", lambda s: Shot(str(s["picture"]), _share(s["weight"]))),
        before=finite(tree["before"]),
        after=finite(tree["after"]),
    )


def _mistake(tree: Mapping[str, Any]) -> Mistake:
    return Mistake(
        picture=str(tree["picture"]),
        true=str(tree["true"]),
        predicted=str(tree["predicted"]),
        confidence=_share(tree["confidence"]),
        nearest=_each(tree, "nearest", _neighbour),
    )


def _neighbour(tree: Mapping[str, Any]) -> Neighbour:
    return Neighbour(str(tree["picture"]), str(tree["name"]), finite(tree["similarity"]))


def _each(tree: Mapping[str, Any], name: str, read: Callable[[Any], Item]) -> tuple[Item, ...]:
    return tuple(read(item) for item in _list(tree.get(name, [])))


def _list(value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise TypeError("a list was expected in details")
    return value


def _mapping(tree: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = tree.get(name, {})
    if not isinstance(value, dict):
        raise TypeError(f"{name} of details is no object")
    return value


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(map(finite, _list(values)))


def finite(value: Any) -> float:
    """Return a number that is neither infinite nor ``nan``.

    Raises:
        TypeError, ValueError: it is no such number.

    Example:
        >>> finite(3)
        3.0
    """
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number} where a number belongs")
    return number


def _share(value: Any) -> float:
    share = float(value)
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"{share} is no share from 0 to 1")
    return share
