"""What a finished table says of the pictures that were asked, beside what is known of them."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fsclip_jax.data.names import same_name
from fsclip_jax.prediction.formats import Row
from fsclip_jax.prediction.quality import Answers, answers_of
from fsclip_jax.prediction.shots import NEARLY

MOST_NAMED = 100
"""Pictures that are named of those that are nearly the same as a labelled one."""


@dataclass(frozen=True)
class ByFolder:
    """Answers for pictures in folders that are called as classes.

    Attributes:
        left_empty: those of them without a label; the most probable class is judged all the same.
        elsewhere: pictures in other folders.
        elsewhere_empty: those of them without a label.
    """

    answers: Answers
    left_empty: int
    elsewhere: int
    elsewhere_empty: int


@dataclass(frozen=True)
class AlsoLabelled:
    """A picture that was asked and is nearly the same as a labelled one."""

    image: str
    labelled: str
    similarity: float
    same_file: bool


class Told(NamedTuple):
    """What the lines of a table tell.

    Attributes:
        lines: in the table.
        empty: lines without a label.
        twice: first ``MOST_NAMED`` pictures that are nearly the same as a labelled one.
        more: how many more there are.
    """

    lines: int
    empty: int
    by_folder: ByFolder | None
    twice: tuple[str, ...]
    more: int


class Written(NamedTuple):
    """What came of the pictures.

    Attributes:
        new: lines that were added to the table.
        lost: pictures that could not be read.
        also_labelled: those of ``told.twice``.
    """

    told: Told
    new: int
    lost: int
    also_labelled: tuple[AlsoLabelled, ...]


def labels_of_folders(keys: Sequence[str], labels: Sequence[int], names: Sequence[str]) -> dict:
    """Map every spelling of a class folder to its label; spellings that two classes have are out.

    Example:
        >>> labels_of_folders(["hot_dog/1.png", "cat/2.png"], [1, 0], ["cat", "hot dog"])
        {'hot dog': 1, 'cat': 0}
    """
    found: dict[str, set[int]] = {}
    for key, label in zip(keys, labels, strict=True):
        found.setdefault(same_name(Path(key).parent.name), set()).add(int(label))
    for label, name in enumerate(names):
        found.setdefault(same_name(name), set()).add(label)
    return {folder: each.pop() for folder, each in found.items() if len(each) == 1}


def tell_of(rows: Iterable[Row], folders: Mapping[str, int], names: Sequence[str]) -> Told:
    """Look once at every row of a table; memory does not grow with their number.

    Answers are compared with the folders of the pictures where these are called as two classes or
    more.

    Example:
        >>> likely = (("cat", 0.9),)
        >>> rows = [Row("x/cat/1.png", "cat", likely, 0.5), Row("x/dog/2.png", "", likely, 0.3)]
        >>> tell_of(rows, {"cat": 0, "dog": 1}, ["cat", "dog"]).by_folder.answers.score.accuracy
        50.0
    """
    numbers = {name: label for label, name in reversed(list(enumerate(names)))}
    asked: Counter[tuple[int, int]] = Counter()
    unknown: Counter[bool] = Counter()
    labels: dict[str, int] = {}
    elsewhere, more = 0, 0
    twice: list[str] = []
    for row in rows:
        folder = os.path.basename(os.path.dirname(row.image))
        if folder not in labels:
            labels[folder] = folders.get(same_name(folder), -1)
        own = labels[folder] if row.best in numbers else -1  # a table may have been edited
        if own >= 0:
            # Two classes may bear one name: an answer by that name is right for both.
            asked[own, own if row.best == names[own] else numbers[row.best]] += 1
        elsewhere += own < 0
        unknown[own >= 0] += not row.label
        if row.similarity >= NEARLY and len(twice) < MOST_NAMED:
            twice.append(row.image)
        elif row.similarity >= NEARLY:
            more += 1
    judged = None
    if len({own for own, _ in asked}) > 1:
        pairs = list(asked.elements())
        answers = answers_of([own for own, _ in pairs], [best for _, best in pairs], names)
        judged = ByFolder(answers, unknown[True], elsewhere, unknown[False])
    return Told(elsewhere + asked.total(), unknown.total(), judged, tuple(twice), more)
