"""A closer look at what the methods answered: per class, by confusion, confidence and mistake."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

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
from fsclip_jax.evaluation.thumbnails import Painter, no_pictures
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.typing import Bool, Float, Int, Params

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
        predictions: id of the predicted class.
        confidence: probability of the predicted class.
    """

    method: str
    predictions: Int[np.ndarray, "draw query"]
    confidence: Float[np.ndarray, "draw query"]


class Look(NamedTuple):
    """What is looked at: one split at one number of shots. Classes are ids of the data.

    Attributes:
        split: name of the split.
        shots: labelled images per class.
        classes: the label space, ascending.
        labels: true class of each image that was asked.
        queries: row of the bank of each image that was asked.
        support: rows of the bank of the shots of ``classes``; -1 where a class has fewer.
        answers: of all methods.
    """

    split: str
    shots: int
    classes: Int[np.ndarray, " way"]
    labels: Int[np.ndarray, " query"]
    queries: Int[np.ndarray, " query"]
    support: Int[np.ndarray, "draw way shot"]
    answers: Sequence[Answered]


class Trained(NamedTuple):
    """A Meta-Adapter of the comparison, whose attention is to be shown."""

    method: str
    adapter: MetaAdapter
    params: Params


def compute(
    look: Look,
    stored: StoredBank,
    trained: Trained | None = None,
    paint: Painter = no_pictures,
    describe: Callable[[int], str] | None = None,
) -> Details:
    """Look closer at the answers of an evaluation.

    Args:
        look: the answers.
        stored: the bank; features are read for the support of the first draw and for mistakes.
        trained: the Meta-Adapter whose attention is shown, if there is one.
        paint: reads the small pictures.
        describe: name of a class by its id; that of the bank if None.

    Returns:
        The details, bounded in size but for one number per class and method.
    """
    name = describe or (lambda label: stored.class_names[label])
    answers = {answered.method: answered for answered in look.answers}
    focus = _focus(look, answers)
    features = _mean_views(stored, look.support[0])
    details = Details(
        split=look.split,
        shots=look.shots,
        draws=len(look.support),
        reference=REFERENCE,
        method=focus,
        changes=class_changes(look, name),
        confusions=confusions(look, answers[focus], stored.keys, name),
        reliability={each.method: reliability(look, each) for each in look.answers},
        mistakes=mistakes(look, answers[focus], stored, features, name),
    )
    if trained is not None and trained.method in answers:
        attention = attend(
            trained.params,
            stored.text_features[look.classes],
            features,
            look.support[0] >= 0,
            heads=trained.adapter.heads,
            text_in_keys=trained.adapter.text_in_keys,
        )
        after = class_accuracy(look, answers[trained.method])
        before = class_accuracy(look, answers[REFERENCE]) if REFERENCE in answers else after
        rows = look.support[0]
        keys = np.array(["", *stored.keys], object)[np.where(rows >= 0, rows + 1, 0)]
        names = [name(int(label)) for label in look.classes]
        gates, shown = gates_and_attention(attention, names, keys, before, after)
        details = replace(details, gates=gates, attention=shown, attention_method=trained.method)
    return replace(details, pictures=paint(sorted(_keys(details))))


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
    place = np.searchsorted(look.classes, look.labels)
    asked = np.bincount(place, minlength=len(look.classes))
    right = np.bincount(place, _right(look, answered).mean(0), minlength=len(look.classes))
    return np.where(asked > 0, 100.0 * right / np.maximum(asked, 1), np.nan)


def class_changes(look: Look, name: Callable[[int], str]) -> ClassChanges | None:
    """Measure how every method changes every class, over the mean of the draws.

    Args:
        look: the answers.
        name: of a class, by its id.

    Returns:
        The changes; ``None`` where the reference was not evaluated.
    """
    accuracies = {each.method: class_accuracy(look, each) for each in look.answers}
    if REFERENCE not in accuracies:
        return None
    reference = accuracies.pop(REFERENCE)
    asked = np.isfinite(reference)
    return ClassChanges(
        classes=tuple(name(int(label)) for label in look.classes[asked]),
        reference=_rounded(reference[asked], 2),
        change={
            method: _rounded((each - reference)[asked], 2) for method, each in accuracies.items()
        },
    )


def confusions(
    look: Look, answered: Answered, keys: Sequence[str], name: Callable[[int], str]
) -> tuple[Confusion, ...]:
    """Count which class is taken for which, over all draws; the most frequent pairs first.

    Args:
        look: the answers.
        answered: whose confusions.
        keys: of the images of the bank.
        name: of a class, by its id.

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
        example = look.queries[np.flatnonzero(taken.any(0))[0]]
        shots = look.support[0, np.searchsorted(look.classes, predicted)]
        listed.append(
            Confusion(
                true=name(true),
                predicted=name(predicted),
                count=int(counts[place]),
                asked=int(np.sum(truth == true)),
                picture=keys[example],
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
    features: Float[np.ndarray, "way shot dim"],
    name: Callable[[int], str],
) -> tuple[Mistake, ...]:
    """Take wrong answers of the first draw, the surest first, and at most one a class.

    Args:
        look: the answers.
        answered: whose mistakes.
        stored: the bank.
        features: of the support of the first draw.
        name: of a class, by its id.

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
    asked = stored.read(rows)[0][back]
    flat = look.support[0].ravel()
    cosines = asked @ features.reshape(len(flat), -1).T
    cosines[:, flat < 0] = -2.0
    listed = []
    for query, near in zip(chosen, cosines, strict=True):
        best = np.argsort(-near, kind="stable")[:MOST_NEIGHBOURS]
        listed.append(
            Mistake(
                picture=stored.keys[look.queries[query]],
                true=name(int(look.labels[query])),
                predicted=name(int(answered.predictions[0, query])),
                confidence=round(min(1.0, float(answered.confidence[0, query])), 4),
                nearest=tuple(
                    Neighbour(
                        stored.keys[flat[shot]],
                        name(int(stored.labels[flat[shot]])),
                        round(float(near[shot]), 4),
                    )
                    for shot in best
                    if flat[shot] >= 0
                ),
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
