"""A closer look at what the methods answered: per class, by confusion, confidence and mistake."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np

from fsclip_jax.adapters.meta_adapter import MetaAdapter
from fsclip_jax.evaluation.details_attention import attend, gates_and_attention
from fsclip_jax.evaluation.details_schema import (
    ClassChanges,
    Confusion,
    Details,
    Mistake,
    Neighbour,
    Reliability,
)
from fsclip_jax.evaluation.methods import Method
from fsclip_jax.evaluation.predictions import Predictions
from fsclip_jax.evaluation.thumbnails import painter_of
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.typing import Bool, Float, Int

REFERENCE, FOCUS = "zero_shot", "meta_adapter"
"""What changes are measured from, and the method that is looked at where it takes part."""

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


def compute(
    predictions: Predictions | None, banks: Sequence[StoredBank], methods: Sequence[Method]
) -> Details | None:
    """Look closer at an evaluation: its novel classes, or its first split, with most shots.

    Args:
        predictions: what every method answered; None where it is not kept.
        banks: the features, in the order of ``predictions.data``.
        methods: those that took part; a Meta-Adapter among them is looked into.

    Returns:
        The details; None where no answers were kept, or without the reference: then there is
        nothing to compare with, as in the cells of a suite, which have one method each.
    """
    if predictions is None or REFERENCE not in {row.method for row in predictions.rows}:
        return None
    if len({row.method for row in predictions.rows}) < 2:
        return None
    splits = {row.split for row in predictions.rows}
    split = "novel" if "novel" in splits else predictions.rows[0].split
    shots = max(row.shots for row in predictions.rows if row.split == split)
    space, asked = predictions.space(split), predictions.group(split)
    of = int(predictions.records.data[asked.queries[0]])
    if max(of, space.data) >= len(banks):
        return None
    stored, query_bank = banks[space.data], banks[of]
    # Images of two data sets may have the same name.
    before = "" if query_bank is stored else f"{predictions.data[of]}: "
    rows = predictions.records.rows
    look = Look(
        split=split,
        shots=shots,
        names=space.class_names,
        classes=space.classes,
        labels=asked.labels,
        queries=rows[asked.queries],
        query_keys=[before + predictions.records.keys[place] for place in asked.queries],
        support=np.where(space.support >= 0, rows[space.support], -1)[:, :, :shots],
        answers=[
            Answered(row.method, row.predicted.astype(np.int64), row.confidence)
            for row in predictions.rows
            if (row.split, row.shots) == (split, shots)
        ],
    )
    found = look_closer(look, stored, query_bank, methods)
    keys = _keys(found)
    mine = {key for key in keys if before and key.startswith(before)}
    pictures = painter_of(stored)(sorted(keys - mine))
    if mine:
        drawn = painter_of(query_bank)(sorted(key.removeprefix(before) for key in mine))
        pictures |= {before + key: picture for key, picture in drawn.items()}
    return replace(found, pictures=pictures)


def look_closer(
    look: Look, stored: StoredBank, query_bank: StoredBank, methods: Sequence[Method] = ()
) -> Details:
    """Compute all details but the pictures.

    Args:
        look: the answers.
        stored: the bank of the support.
        query_bank: the bank of the images that were asked.
        methods: those that took part.

    Returns:
        The details, bounded in size but for one number per class and method.
    """
    answers = {answered.method: answered for answered in look.answers}
    focus = _focus(look, answers)
    features = _mean_views(stored, look.support[0])
    details = Details(
        split=look.split,
        shots=look.shots,
        draws=len(answers[focus].predictions),
        reference=REFERENCE,
        method=focus,
        changes=class_changes(look),
        confusions=confusions(look, answers[focus], stored.keys),
        reliability={each.method: reliability(look, each) for each in look.answers},
        mistakes=mistakes(look, answers[focus], stored, query_bank, features),
    )
    adapters = [each for each in methods if isinstance(each.adapter, MetaAdapter)]
    shown = next((each for each in adapters if each.name in answers), None)
    if shown is None or REFERENCE not in answers:
        return details
    adapter = cast(MetaAdapter, shown.adapter)
    attention = attend(
        shown.params,
        stored.text_features[look.classes],
        features,
        look.support[0] >= 0,
        heads=adapter.heads,
        text_in_keys=adapter.text_in_keys,
    )
    before, after = (class_accuracy(look, answers[name]) for name in (REFERENCE, shown.name))
    rows = look.support[0]
    keys = np.array(["", *stored.keys], object)[np.where(rows >= 0, rows + 1, 0)]
    gates, classes = gates_and_attention(attention, look.names, keys, before, after)
    return replace(details, gates=gates, attention=classes, attention_method=shown.name)


def _focus(look: Look, answers: Mapping[str, Answered]) -> str:
    """The Meta-Adapter if it was trained, else the method with most right answers."""
    if FOCUS in answers:
        return FOCUS
    return max(answers, key=lambda method: float(_right(look, answers[method]).mean()))


def _right(look: Look, answered: Answered) -> Bool[np.ndarray, "draw query"]:
    right: np.ndarray = answered.predictions == look.labels[None]
    return right


def class_accuracy(look: Look, answered: Answered) -> Float[np.ndarray, " way"]:
    """Percent right within each class of the label space; ``nan`` where it was not asked."""
    asked = np.bincount(look.labels, minlength=len(look.names))
    right = np.bincount(look.labels, _right(look, answered).mean(0), minlength=len(look.names))
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
    wrong = ~_right(look, answered)
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
                asked=int(np.sum(truth == true)),
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
    right = _right(look, answered).ravel()
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
    wrong = np.flatnonzero(~_right(look, answered)[0])
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


def _mean_views(
    stored: StoredBank, rows: Int[np.ndarray, "way shot"]
) -> Float[np.ndarray, "way shot dim"]:
    """The support as the methods see it: the mean of all views, of unit length."""
    there, back = np.unique(np.maximum(rows, 0), return_inverse=True)
    mean = stored.read(there).mean(0)
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
    return np.where(rows[..., None] >= 0, mean[back.reshape(rows.shape)], np.float32(0))


def _keys(details: Details) -> set[str]:
    """Keys of all images that the details mention."""
    found = {pair.picture for pair in details.confusions}
    found |= {pair.predicted_picture for pair in details.confusions}
    found |= {shot.picture for each in details.attention for shot in each.shots}
    found |= {mistake.picture for mistake in details.mistakes}
    found |= {near.picture for mistake in details.mistakes for near in mistake.nearest}
    return found - {""}


def _rounded(values: np.ndarray, digits: int) -> tuple[float, ...]:
    return tuple(round(float(value), digits) for value in values)
