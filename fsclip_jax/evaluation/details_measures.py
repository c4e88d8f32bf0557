"""What predictions say of classes, confusions, confidence and mistakes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fsclip_jax.evaluation.predictions import Predicted
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.report.details import (
    ClassChanges,
    Confusion,
    Mistake,
    Neighbour,
    Reliability,
)
from fsclip_jax.report.intervals import LEAST_IN_BIN, MOST_BINS
from fsclip_jax.report.measured import REFERENCE
from fsclip_jax.report.shots import Shots
from fsclip_jax.typing import Bool, Float, Int

MOST_PAIRS, MOST_MISTAKES, MOST_NEIGHBOURS = 12, 12, 4
"""Upper bounds that keep a report small."""


class Look(NamedTuple):
    """What is looked at: one split at one number of shots.

    Attributes:
        classes: their ids in the data of the support.
        labels: true class of each query, a place in ``names``.
        support: rows of the shots; -1 where a class has fewer.
    """

    split: str
    shots: Shots
    names: Sequence[str]
    classes: Int[np.ndarray, " way"]
    labels: Int[np.ndarray, " query"]
    queries: Int[np.ndarray, " query"]
    query_keys: Sequence[str]
    support: Int[np.ndarray, "draw way shot"]
    predicted: Mapping[str, Predicted]


def right_predictions(look: Look, each: Predicted) -> Bool[np.ndarray, "draw query"]:
    """True where the prediction is the true class."""
    right: np.ndarray = each.predicted == look.labels[None]
    return right


def class_accuracy(look: Look, each: Predicted) -> Float[np.ndarray, " way"]:
    """Percent right within each class of the label space; ``nan`` where it has no query."""
    count = np.bincount(look.labels, minlength=len(look.names))
    shares = right_predictions(look, each).mean(0)
    right = np.bincount(look.labels, shares, minlength=len(look.names))
    return np.where(count > 0, 100.0 * right / np.maximum(count, 1), np.nan)


def class_changes(look: Look) -> ClassChanges | None:
    """Measure changes of every class, over the mean of the draws; None without the reference."""
    accuracies = {name: class_accuracy(look, each) for name, each in look.predicted.items()}
    if REFERENCE not in accuracies:
        return None
    reference = accuracies.pop(REFERENCE)
    there = np.isfinite(reference)
    return ClassChanges(
        classes=tuple(look.names[int(place)] for place in np.flatnonzero(there)),
        reference=_rounded(reference[there], 2),
        change={
            method: _rounded((each - reference)[there], 2) for method, each in accuracies.items()
        },
    )


def confusions(look: Look, each: Predicted, keys: Sequence[str]) -> tuple[Confusion, ...]:
    """Count which class is taken for which, over all draws: the ``MOST_PAIRS`` most frequent."""
    wrong = ~right_predictions(look, each)
    truth = np.broadcast_to(look.labels, wrong.shape)
    pairs = np.stack([truth[wrong], each.predicted[wrong].astype(truth.dtype)], 1)
    if not len(pairs):
        return ()
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    listed = []
    for place in np.argsort(-counts, kind="stable")[:MOST_PAIRS]:
        true, predicted = found[place].tolist()
        taken = (truth == true) & (each.predicted == predicted)
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


def reliability(look: Look, each: Predicted) -> Reliability:
    """Put the predictions of all draws into bins of confidence that hold equally many.

    There are as many bins as the images bear: each holds ``LEAST_IN_BIN`` or more, and there are
    ``MOST_BINS`` at most. Predictions of one confidence are in one bin.
    """
    confidence = each.confidence.astype(np.float64).ravel()
    right = right_predictions(look, each).ravel()
    bins = min(max(1, len(look.labels) // LEAST_IN_BIN), MOST_BINS)
    edges = np.quantile(confidence, np.arange(1, bins) / bins, method="lower")
    place = np.searchsorted(np.unique(edges), confidence, side="right")
    count = np.bincount(place, minlength=1)
    there = count > 0
    mean = np.bincount(place, confidence)[there] / count[there]
    accuracy = np.bincount(place, right)[there] / count[there]
    return Reliability(_rounded(mean, 4), _rounded(accuracy, 4), tuple(count[there].tolist()))


def mistakes(
    look: Look,
    each: Predicted,
    stored: StoredBank,
    query_bank: StoredBank,
    features: Float[np.ndarray, "way shot dim"],
) -> tuple[Mistake, ...]:
    """Take wrong predictions of the first draw, the surest first, and at most one a class.

    At most ``MOST_MISTAKES``, each with the nearest shots of any class by the cosine.
    """
    wrong = np.flatnonzero(~right_predictions(look, each)[0])
    surest = wrong[np.argsort(-each.confidence[0, wrong], kind="stable")]
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
                predicted=look.names[each.predicted[0, query]],
                confidence=round(min(1.0, float(each.confidence[0, query])), 4),
                nearest=tuple(nearest),
            )
        )
    return tuple(listed)


def _rounded(values: np.ndarray, digits: int) -> tuple[float, ...]:
    return tuple(round(float(value), digits) for value in values)
