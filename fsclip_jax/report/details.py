"""``details`` of a report: what a reader may want to look into, beyond the table."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeAlias

from msgspec import Meta

from fsclip_jax.report.shots import FORM

PICTURE = re.compile(r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/]+={0,2}")
"""The only form of a picture that is taken from a report: it can neither run nor load anything."""

Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Count: TypeAlias = Annotated[int, Meta(gt=0, lt=2**53)]
Percent: TypeAlias = Annotated[float, Meta(ge=-0.001, le=100.001)]
Points: TypeAlias = Annotated[float, Meta(ge=-100.001, le=100.001)]
Cosine: TypeAlias = Annotated[float, Meta(ge=-1.001, le=1.001)]


@dataclass(frozen=True)
class ClassChanges:
    """Accuracy in percent of every class with queries, and how methods change it, in points."""

    classes: tuple[str, ...]
    reference: tuple[Percent, ...]
    change: Mapping[str, tuple[Points, ...]]

    def __post_init__(self) -> None:
        lengths = {len(self.classes), len(self.reference), *map(len, self.change.values())}
        if len(lengths) > 1 or not self.classes:
            raise ValueError("changes are not one number a class")


@dataclass(frozen=True)
class Confusion:
    """A class that is often taken for another one."""

    true: str
    predicted: str
    count: Count
    queries: Count
    picture: str = ""
    predicted_picture: str = ""


@dataclass(frozen=True)
class Reliability:
    """Mean confidence against accuracy, in the bins of confidence that hold a prediction."""

    confidence: tuple[Share, ...]
    accuracy: tuple[Share, ...]
    count: tuple[Count, ...]

    def __post_init__(self) -> None:
        if not len(self.confidence) == len(self.accuracy) == len(self.count):
            raise ValueError("the bins of a reliability diagram differ in number")


@dataclass(frozen=True)
class Shot:
    """A support image and the share of the attention that it gets; ``picture`` is its key."""

    picture: str
    weight: Share


@dataclass(frozen=True)
class ClassAttention:
    """How the Meta-Adapter refines the text feature of one class.

    Attributes:
        why: why this class is shown.
        text_weight: share of the attention that the text feature gives to itself.
        left_out: shots that are not among ``shots``; ``None`` of an earlier version.
        before: accuracy of the reference within the class, in percent.
        after: accuracy of the Meta-Adapter within the class, in percent.
    """

    name: str
    why: str
    gate: Share
    text_weight: Share
    shots: tuple[Shot, ...]
    before: Percent
    after: Percent
    left_out: Annotated[int, Meta(ge=0, lt=2**53)] | None = None


@dataclass(frozen=True)
class Neighbour:
    """A support image close to a query: its key, its class, and its cosine to the query."""

    picture: str
    name: str
    similarity: Cosine


@dataclass(frozen=True)
class Mistake:
    """An image that was classified wrong, and the support images nearest to it, nearest first."""

    picture: str
    true: str
    predicted: str
    confidence: Share
    nearest: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Details:
    """A closer look at one split at one number of shots, the largest that was evaluated.

    Attributes:
        changes: accuracy class by class; ``None`` without the reference.
        pictures: small pictures as data URIs, by key. An image that cannot be read is not there,
            nor is what is no inlined PNG or JPEG.
    """

    split: str
    shots: Count | Annotated[str, Meta(pattern=FORM)]
    draws: Count
    reference: str
    method: str
    changes: ClassChanges | None = None
    confusions: tuple[Confusion, ...] = ()
    reliability: Mapping[str, Reliability] = field(default_factory=dict)
    attention: tuple[ClassAttention, ...] = ()
    attention_method: str = ""
    gates: tuple[Share, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    pictures: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        safe = {
            key: uri
            for key, uri in self.pictures.items()
            if isinstance(uri, str) and PICTURE.fullmatch(uri)
        }
        object.__setattr__(self, "pictures", safe)
