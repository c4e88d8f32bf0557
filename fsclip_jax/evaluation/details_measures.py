"""What the answers of an evaluation say of classes, confusions, confidence and mistakes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fsclip_jax.features.bank import StoredBank
from fsclip_jax.report.details import (
    ClassChanges,
    Confusion,
    Mistake,
    Neighbour,
    Reliability,
)
from fsclip_jax.typing import Bool, Float, Int

REFERENCE = "zero_shot"
"""What changes are measured from."""

BINS = 15
"""Bins of a reliability diagram: those of ``metrics.calibration_error``."""

MOST_PAIRS, MOST_MISTAKES, MOST_NEIGHBOURS = 12, 12, 4
"""Upper bounds that keep a report small."""


class Answered(NamedTuple):
    """What one method answered.

    Attributes:
        method: its name in the report.
        predictions: predicted class, a place in ``Look.names``.
        confidence: probability of the predicted class.
    """

    method: str
    predictions: Int[np.ndarray, "draw query"]
    confidence: Float[np.ndarray, "draw query"]


class Look(NamedTuple):
    """What is looked at: one split at one number of shots.

    Attributes:
        split: name of the split.
        shots: labelled images per class.
        names: of the classes that are told apart.
        classes: their ids in the data of the support.
        labels: true class of each image that was asked, a place in ``names``.
        queries: row of each image that was asked, in the bank it is of.
        query_keys: what ``Details.pictures`` calls those images.
        support: rows of the shots; -1 where a class has fewer.
        answers: of all methods.
    """

    split: str
    shots: int
    names: Sequence[str]
    classes: Int[np.ndarray, " way"]
    labels: Int[np.ndarray, " query"]
    queries: Int[np.ndarray, " query"]
    query_keys: Sequence[str]
    support: Int[np.ndarray, "draw way shot"]
    answers: Sequence[Answered]


def right_answers(look: Look, answered: Answered) -> Bool[np.ndarray, "draw query"]:
    """True where the answer is the true class."""
    right: np.ndarray = answered.predictions == look.labels[None]
    return right


def class_accuracy(look: Look, answered: Answered) -> Float[np.ndarray, " way"]:
    """Percent right within each class of the label space; ``nan`` where it was not asked."""
    asked = np.bincount(look.labels, minlength=len(look.names))
    right = np.bincount(
        look.labels, right_answers(look, answered).mean(0), minlength=len(look.names)
    )
    return np.where(asked > 0, 100.0 * right / np.maximum(asked, 1), np.nan)


def class_changes(look: Look) -> ClassChanges | None:
    """Measure how every method changes every class, over the mean of the draws.

    Args:
        look: the answers.

    Returns:
        The changes; ``None`` where the reference was not evaluated.
    """
    accuracies = {each.method: class_accuracy(look, each) for each in look.answers}
    if REFERENCE not in accuracies:
        return None
    reference = accuracies.pop(REFERENCE)
    asked = np.isfinite(reference)
    return ClassChanges(
        classes=tuple(look.names[int(place)] for place in np.flatnonzero(asked)),
        reference=_rounded(reference[asked], 2),
        change={
            method: _rounded((each - reference)[asked], 2) for method, each in accuracies.items()
        },
    )


def confusions(look: Look, answered: Answered, keys: Sequence[str]) -> tuple[Confusion, ...]:
    """Count which class is taken for which, over all draws; the most frequent pairs first.

    Args:
        look: the answers.
        answered: whose confusions.
        keys: of the images of the bank of the support.

    Returns:
        At most ``MOST_PAIRS`` pairs that occur.
    """
    wrong = ~right_answers(look, answered)
    truth = np.broadcast_to(look.labels, wrong.shape)
    pairs = np.stack([truth[wrong], answered.predictions[wrong]], 1)
    if not len(pairs):
        return ()
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    listed = []
    for place in np.argsort(-counts, kind="stable")[:MOST_PAIRS]:
        true, predicted = found[place].tolist()
        taken = (truth == true) & (answered.predictions == predicted)
        shots = look.support[0, predicted]
        listed.append(
            Confusion(
                true=look.names[true],
                predicted=look.names[predicted],
                count=int(counts[place]),
                queries=int(np.sum(truth == true)),
                picture=look.query_keys[int(np.flatnonzero(taken.any(0))[0])],
                predicted_picture=keys[shots[0]] if shots[0] >= 0 else "",
            )
        )
    return tuple(listed)


def reliability(look: Look, answered: Answered, bins: int = BINS) -> Reliability:
    """Put the answers of all draws into even bins of confidence.

    Args:
        look: the answers.
        answered: whose answers.
        bins: number of bins; ``(b - 1) / bins < confidence <= b / bins``.

    Returns:
        Mean confidence and accuracy of the bins that hold an answer.

    Source: Guo et al., "On Calibration of Modern Neural Networks", section 2.
    """
    confidence = answered.confidence.astype(np.float64).ravel()
    right = right_answers(look, answered).ravel()
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    there = count > 0
    mean = np.bincount(place, confidence, bins)[there] / count[there]
    accuracy = np.bincount(place, right, bins)[there] / count[there]
    return Reliability(_rounded(mean, 4), _rounded(accuracy, 4), tuple(count[there].tolist()))


def mistakes(
    look: Look,
    answered: Answered,
    stored: StoredBank,
    query_bank: StoredBank,
    features: Float[np.ndarray, "way shot dim"],
) -> tuple[Mistake, ...]:
    """Take wrong answers of the first draw, the surest first, and at most one a class.

    Args:
        look: the answers.
        answered: whose mistakes.
        stored: the bank of the support.
        query_bank: the bank of the images that were asked.
        features: of the support of the first draw.

    Returns:
        At most ``MOST_MISTAKES``, each with the nearest shots of any class by the cosine.
    """
    wrong = np.flatnonzero(~right_answers(look, answered)[0])
    surest = wrong[np.argsort(-answered.confidence[0, wrong], kind="stable")]
    _, first = np.unique(look.labels[surest], return_index=True)
    chosen = surest[np.sort(first)[:MOST_MISTAKES]]
    if not len(chosen):
        return ()
    rows, back = np.unique(look.queries[chosen], return_inverse=True)
    flat, shot = look.support[0].ravel(), look.support.shape[2]
    cosines = query_bank.read(rows)[0][back] @ features.reshape(len(flat), -1).T
    cosines[:, flat < 0] = -2.0
    listed = []
    for query, near in zip(chosen, cosines, strict=True):
        best = [i for i in np.argsort(-near, kind="stable")[:MOST_NEIGHBOURS] if flat[i] >= 0]
        nearest = [
            Neighbour(stored.keys[flat[i]], look.names[i // shot], round(float(near[i]), 4))
            for i in best
        ]
        listed.append(
            Mistake(
                picture=look.query_keys[query],
                true=look.names[look.labels[query]],
                predicted=look.names[answered.predictions[0, query]],
                confidence=round(min(1.0, float(answered.confidence[0, query])), 4),
                nearest=tuple(nearest),
            )
        )
    return tuple(listed)


def _rounded(values: np.ndarray, digits: int) -> tuple[float, ...]:
    return tuple(round(float(value), digits) for value in values)
