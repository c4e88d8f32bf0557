"""What every method predicted for every query, kept beside the report.

``predictions.safetensors`` holds, once, which images were shots and which were queries, and for
every row of the report the predictions of every draw, so that each number of the report can be
computed again, and others beside: accuracies of classes, confusions, calibration. Four kinds of
things refer to each other by their place in a list:

``records``
    Images. Each has a data set (place in ``data``), a row of its feature bank, and a key: the
    file name or record id by which the data set knows it.
``spaces``
    Label spaces: the classes that a classifier tells apart, and the shots of every draw. The
    first ``K`` shots of a class are its support at ``K`` shots, but for numbers of shots in
    ``others``.
``groups``
    Queries that make one row of every method; the ``split`` of a row of the report is the name of
    its group. Query ``i`` is the record ``queries[i]`` and of the class ``labels[i]`` of the space.
``rows``
    The predictions of one method at one number of shots for one group, arrays [draw query]. Rows
    that are computed from others (``harmonic``, ``average``) are not here, nor are those whose
    published procedure has query images of its own (``meta_adapter_as_published``).

A row that has one draw where its space has several was fitted to all train images: the draws
would be the same. Ten bytes are kept for every prediction: 6 MB for all methods on the emoji at
three numbers of shots and three seeds. ``episodic`` keeps none: its hundreds of episodes each
have classes and images of their own, and the accuracy of every one is in the report.

    from fsclip_jax.evaluation.predictions_file import read_predictions

    kept = read_predictions(Path("runs/all_methods"))
    row = kept.find("tip_adapter", 4, "novel")
    right = row.predicted == kept.group("novel").labels      # [draw query]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fsclip_jax.report.shots import Shots


@dataclass(frozen=True)
class Records:
    """Images that were shots or queries.

    ``rows`` are the places of the images in the feature bank of their data set; both int32 [n].
    """

    data: np.ndarray
    rows: np.ndarray
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Space:
    """Classes that one classifier told apart, and its shots.

    Attributes:
        data: place in ``StoredPredictions.data`` of the data set that classes and shots are of.
        classes: ids of the classes in that data set, int32 [way].
        support: place in ``records`` of each shot, int32 [draw way shot]; -1 where a class has
            no further image.
        others: supports that are not the first shots of this one, by their number of shots.
    """

    data: int
    class_names: tuple[str, ...]
    classes: np.ndarray
    support: np.ndarray
    others: Mapping[Shots, np.ndarray] = field(default_factory=dict)

    def shots(self, shots: Shots) -> np.ndarray:
        """Return the support at a number of shots, places in ``records`` as in ``support``."""
        return self.others[shots] if shots in self.others else self.support[:, :, :shots]


@dataclass(frozen=True)
class QueryGroup:
    """Queries that make one row of every method.

    Attributes:
        space: place in ``StoredPredictions.spaces`` of the classes that they are told apart among.
        queries: place in ``records`` of each image, int32 [query].
        labels: true class, a place in ``class_names`` of the space, int32 [query].
    """

    name: str
    space: int
    queries: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Predicted:
    """The predictions behind one row of the report, whose method, shots and split it names.

    Attributes:
        predicted: predicted class, a place in ``class_names`` of the space, uint16 or uint32
            [draw query].
        confidence: probability of the predicted class, float32 [draw query].
        nll: negative logarithm of the probability of the true class, in nats, float32
            [draw query]; the probability itself would be zero where it is below 1e-45.
    """

    method: str
    shots: Shots
    split: str
    predicted: np.ndarray
    confidence: np.ndarray
    nll: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """Probability of the true class, [draw query]."""
        return np.exp(-self.nll)


@dataclass(frozen=True)
class StoredPredictions:
    """All predictions of an evaluation, rows in the order of the report; see the module."""

    data: tuple[str, ...]
    records: Records
    spaces: tuple[Space, ...]
    groups: tuple[QueryGroup, ...]
    rows: tuple[Predicted, ...]

    def group(self, split: str) -> QueryGroup:
        """Return the group of that name; ``KeyError`` if there is none."""
        for group in self.groups:
            if group.name == split:
                return group
        raise KeyError(split)

    def space(self, split: str) -> Space:
        """Return the label space of the group of that name; ``KeyError`` if there is none."""
        return self.spaces[self.group(split).space]

    def find(self, method: str, shots: Shots, split: str) -> Predicted | None:
        """Return the predictions behind a row of the report, None if they are not kept."""
        for row in self.rows:
            if (row.method, row.shots, row.split) == (method, shots, split):
                return row
        return None


class Part(NamedTuple):
    """A label space before its images are numbered.

    Attributes:
        support: rows of the bank of each shot, [draw way shot]; -1 for none.
        groups: by name: the data set of the queries, their rows in its bank, their labels.
        others: as of `Space`, rows of the bank.
    """

    data: int
    class_names: Sequence[str]
    classes: np.ndarray
    support: np.ndarray
    groups: dict[str, tuple[int, np.ndarray, np.ndarray]]
    others: Mapping[Shots, np.ndarray] = {}


def assemble(
    data: Sequence[tuple[str, Sequence[str]]], parts: Sequence[Part], rows: Sequence[Predicted]
) -> StoredPredictions:
    """Number the images of an evaluation, in the order of data sets and rows."""
    used = [np.zeros(len(keys), bool) for _, keys in data]
    for part in parts:
        for support in (part.support, *part.others.values()):
            used[part.data][support[support >= 0]] = True
        for place, queries, _ in part.groups.values():
            used[place][queries] = True
    counts = [int(mask.sum()) for mask in used]
    first = np.cumsum([0, *counts])
    number = [np.cumsum(mask) - 1 + first[i] for i, mask in enumerate(used)]
    chosen = [np.flatnonzero(mask) for mask in used]
    records = Records(
        data=np.repeat(np.arange(len(data), dtype=np.int32), counts),
        rows=np.concatenate(chosen).astype(np.int32),
        keys=tuple(data[i][1][row] for i, rows in enumerate(chosen) for row in rows.tolist()),
    )
    spaces, groups = [], []
    for place, part in enumerate(parts):
        names, classes = tuple(part.class_names), part.classes.astype(np.int32)
        support, *others = (
            np.where(rows >= 0, number[part.data][rows], -1).astype(np.int32)
            for rows in (part.support, *part.others.values())
        )
        known = dict(zip(part.others, others, strict=True))
        spaces.append(Space(part.data, names, classes, support, known))
        for name, (queries_of, queries, labels) in part.groups.items():
            records_of = number[queries_of][queries].astype(np.int32)
            groups.append(QueryGroup(name, place, records_of, labels.astype(np.int32)))
    specs = tuple(spec for spec, _ in data)
    return StoredPredictions(specs, records, tuple(spaces), tuple(groups), tuple(rows))
