"""A closer look at what the methods answered: per class, by confusion, confidence and mistake."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from fsclip_jax.adapters.meta_adapter import MetaAdapter
from fsclip_jax.evaluation.details_attention import attend, gates_and_attention
from fsclip_jax.evaluation.details_measures import (
    REFERENCE,
    Answered,
    Look,
    class_accuracy,
    class_changes,
    confusions,
    mistakes,
    reliability,
    right_answers,
)
from fsclip_jax.evaluation.predictions import Predictions
from fsclip_jax.evaluation.thumbnails import painter_of
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.fitting.methods import Method
from fsclip_jax.report.details import Details
from fsclip_jax.typing import Float, Int

FOCUS = "meta_adapter"
"""The method that is looked at where it takes part."""


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
    return max(answers, key=lambda method: float(right_answers(look, answers[method]).mean()))


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
