"""What a finished table says of the pictures that were asked, beside what is known of them."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fsclip_jax.data.names import same_name
from fsclip_jax.prediction.quality import Answers, answers_of
from fsclip_jax.prediction.shots import NEARLY
from fsclip_jax.printable import unescaped

_NAMES = ("image", "label", "class_1")


class Row(NamedTuple):
    """What a line of the table says; ``label`` is empty for a picture of none of the classes."""

    image: str
    label: str
    best: str
    similarity: float


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


class Written(NamedTuple):
    """What came of the pictures.

    Attributes:
        lines: in the table.
        lost: pictures that could not be read.
        empty: lines without a label.
        more: pictures that are nearly the same as a labelled one, beyond ``also_labelled``.
    """

    lines: int
    lost: int
    empty: int
    by_folder: ByFolder | None
    also_labelled: tuple[AlsoLabelled, ...]
    more: int


def read_rows(table: Path, *, safe: bool = False) -> Iterator[Row]:
    """Read a table line by line; for ``safe`` see ``PredictionTable``."""
    mark = "'" * safe
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            image, label, best = (row[name].removeprefix(mark) for name in _NAMES)
            yield Row(unescaped(image), label, best, float(row["similarity"]))


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


def judge_folders(
    rows: Sequence[Row], folders: Mapping[str, int], names: Sequence[str]
) -> ByFolder | None:
    """Compare the answers with the folders of the pictures; None where under two name a class.

    Example:
        >>> rows = [Row("x/cat/1.png", "cat", "cat", 0.9), Row("x/dog/2.png", "", "cat", 0.3)]
        >>> judge_folders(rows, {"cat": 0, "dog": 1}, ["cat", "dog"]).answers.score.accuracy
        50.0
    """
    own = [folders.get(same_name(Path(row.image).parent.name), -1) for row in rows]
    judged = [(row, label) for row, label in zip(rows, own, strict=True) if label >= 0]
    if len({label for _, label in judged}) < 2:
        return None
    numbers = {name: label for label, name in reversed(list(enumerate(names)))}
    answers = answers_of(
        [label for _, label in judged],
        # Two classes may bear one name: an answer by that name is right for both.
        [label if row.best == names[label] else numbers.get(row.best, -1) for row, label in judged],
        names,
    )
    others = [row for row, label in zip(rows, own, strict=True) if label < 0]
    return ByFolder(
        answers,
        sum(not row.label for row, _ in judged),
        len(others),
        sum(not row.label for row in others),
    )


def also_labelled(rows: Sequence[Row]) -> list[str]:
    """Name the pictures that are nearly the same as a labelled one."""
    return [row.image for row in rows if row.similarity >= NEARLY]
