"""How good a fit is, and what to look at in the labelled pictures, from those held out in turn."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fsclip_jax.prediction.held_out import HeldOut
from fsclip_jax.prediction.shots import Shots
from fsclip_jax.report.intervals import wilson_interval
from fsclip_jax.typing import Float, Int

MISLABELLED = 10.0
"""How many times as probable as its label another class must be to doubt the label. Of labels
that were exchanged, 5 % of all, this finds 346 of 350 in photographs and 102 of 110 in the bundled
art, among 418 and 401 pictures that it lists (``benchmarks/few_pictures.py``)."""


@dataclass(frozen=True)
class Score:
    """Right answers of some; ``low`` and ``high`` are Wilson's 95 % interval, all in percent."""

    right: int
    asked: int
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        """Return it as one reads it."""
        if self.accuracy is None:
            return "none asked"
        shown = f"{self.accuracy:.1f} % ({self.low:.1f} to {self.high:.1f})"
        return f"{self.right} of {self.asked}, {shown}"


def score_of(right: int, asked: int) -> Score:
    """Return a score with its interval.

    Example:
        >>> str(score_of(8, 10))
        '8 of 10, 80.0 % (49.0 to 94.3)'
    """
    if not asked:
        return Score(right, asked)
    low, high = wilson_interval(right, asked)
    return Score(right, asked, *(round(100 * share, 2) for share in (right / asked, low, high)))


@dataclass(frozen=True)
class ClassScore:
    """Right answers within a class."""

    name: str
    right: int
    asked: int


@dataclass(frozen=True)
class Confused:
    """How many pictures of a class are taken for another."""

    label: str
    predicted: str
    pictures: int


@dataclass(frozen=True)
class Answers:
    """Answers beside the truth.

    Attributes:
        classes: those that were asked about, the weakest first.
        confused: pairs of classes, the most frequent first.
    """

    score: Score
    classes: tuple[ClassScore, ...]
    confused: tuple[Confused, ...]


@dataclass(frozen=True)
class Doubt:
    """A labelled picture whose label may be wrong; ``picture`` is its row or its name."""

    picture: int | str
    label: str
    predicted: str
    probability: float
    probability_of_label: float


@dataclass(frozen=True)
class Twice:
    """Two labelled pictures that are nearly the same."""

    picture: int | str
    other: int | str
    label: str
    other_label: str
    similarity: float
    same_file: bool = False


@dataclass(frozen=True)
class Quality:
    """What held-out pictures say of a fit.

    Attributes:
        labelled: labelled pictures; those alone in their class cannot be held out.
        mislabelled: pictures whose held-out prediction is sure and another than their label.
        twice: pictures that stand twice; they were held out together.
    """

    labelled: int
    held_out: Answers
    mislabelled: tuple[Doubt, ...]
    twice: tuple[Twice, ...]


def answers_of(labels: Sequence[int], predicted: Sequence[int], names: Sequence[str]) -> Answers:
    """Count right answers, by class and by pair of classes.

    Example:
        >>> answers_of([0, 0, 1], [0, 1, 1], ["cat", "dog"]).confused
        (Confused(label='cat', predicted='dog', pictures=1),)
    """
    true, found = np.asarray(labels, int), np.asarray(predicted, int)
    asked = np.bincount(true, minlength=len(names))
    right = np.bincount(true[true == found], minlength=len(names))
    there = np.flatnonzero(asked)
    weakest = there[np.lexsort((-asked[there], right[there] / asked[there]))].tolist()
    wrong = Counter(zip(true[true != found].tolist(), found[true != found].tolist(), strict=True))
    return Answers(
        score_of(int(right.sum()), len(true)),
        tuple(ClassScore(names[c], int(right[c]), int(asked[c])) for c in weakest),
        tuple(Confused(names[a], names[b], n) for (a, b), n in wrong.most_common()),
    )


def doubts(
    probabilities: Float[np.ndarray, "n way"], labels: Int[np.ndarray, " n"]
) -> Int[np.ndarray, " doubt"]:
    """Return the held-out pictures whose label is in doubt, the gravest first.

    Another class is more than ``MISLABELLED`` times as probable.

    Example:
        >>> shares = np.array([[0.9, 0.1], [0.05, 0.95], [0.02, 0.98], [0.1, 0.9], [0.45, 0.55]])
        >>> doubts(shares, np.array([0, 0, 0, 1, 0])).tolist()
        [2, 1]
    """
    own = probabilities[np.arange(len(labels)), labels]
    ratio = probabilities.max(-1, initial=0) / np.maximum(own, 1e-30)
    found = np.flatnonzero(ratio > MISLABELLED)
    return np.asarray(found[np.argsort(-ratio[found], kind="stable")])


def assess(
    held: HeldOut, probabilities: Float[np.ndarray, "n way"], shots: Shots, names: Sequence[str]
) -> Quality:
    """Say what held-out pictures, with their probabilities, tell of a fit."""
    rows, each = shots.rows.tolist(), shots.mask.shape[1]
    labels, predicted = held.labels.tolist(), held.logits.argmax(-1).tolist()
    doubtful = tuple(
        Doubt(
            rows[held.slots[place]],
            names[labels[place]],
            names[predicted[place]],
            round(float(probabilities[place, predicted[place]]), 4),
            round(float(probabilities[place, labels[place]]), 4),
        )
        for place in doubts(probabilities, held.labels).tolist()
    )
    twice = tuple(
        Twice(rows[one], rows[two], names[one // each], names[two // each], round(cosine, 4))
        for one, two, cosine in shots.twins
    )
    answers = answers_of(labels, predicted, names)
    return Quality(int(shots.mask.sum()), answers, doubtful, twice)
