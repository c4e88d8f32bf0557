"""A closer look at what the methods predicted: per class, by confusion, confidence and mistake."""

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from fsclip_jax.adapters.meta_adapter import MetaAdapter
from fsclip_jax.evaluation.as_published import SUFFIX
from fsclip_jax.evaluation.details_attention import attention_of, gates_and_attention
from fsclip_jax.evaluation.details_measures import (
    REFERENCE,
    Look,
    class_accuracy,
    class_changes,
    confusions,
    mistakes,
    reliability,
    right_predictions,
)
from fsclip_jax.evaluation.predictions import Predicted, StoredPredictions
from fsclip_jax.evaluation.thumbnails import pictures_of
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.fitting.methods import Method
from fsclip_jax.report.details import Details
from fsclip_jax.report.shots import in_order
from fsclip_jax.typing import Float, Int


def details_of(
    predictions: StoredPredictions | None,
    banks: Sequence[StoredBank],
    methods: Sequence[Method],
    method: str = "",
) -> Details | None:
    """Look closer at an evaluation: its novel classes, or its first split, with most shots.

    The ``method`` that is looked at is the most accurate one if none is named. None where no
    predictions were kept, or without the reference: then there is nothing to compare with, as in
    the cells of a suite, which have one method each.
    """
    if predictions is None:
        return None
    names = {row.method for row in predictions.rows}
    if REFERENCE not in names or len(names) < 2:
        return None
    splits = {row.split for row in predictions.rows}
    split = "novel" if "novel" in splits else predictions.rows[0].split
    of = int(predictions.records.data[predictions.group(split).queries[0]])
    support_of = predictions.space(split).data
    if max(of, support_of) >= len(banks):
        return None
    stored, query_bank = banks[support_of], banks[of]
    # Images of two data sets may have the same name.
    before = "" if query_bank is stored else f"{predictions.data[of]}: "
    found = look_closer(_look(predictions, split, before), stored, query_bank, methods, method)
    return replace(found, pictures=_pictures(found, stored, query_bank, before))


def _look(predictions: StoredPredictions, split: str, before: str) -> Look:
    """What is looked at of one split: its queries, their shots and all predictions."""
    shots = in_order(row.shots for row in predictions.rows if row.split == split)[-1]
    space, group = predictions.space(split), predictions.group(split)
    rows, keys = predictions.records.rows, predictions.records.keys
    return Look(
        split=split,
        shots=shots,
        names=space.class_names,
        classes=space.classes,
        labels=group.labels,
        queries=rows[group.queries],
        query_keys=[before + keys[place] for place in group.queries],
        support=np.where((placed := space.shots(shots)) >= 0, rows[placed], -1),
        predicted={
            row.method: row for row in predictions.rows if (row.split, row.shots) == (split, shots)
        },
    )


def _pictures(
    details: Details, stored: StoredBank, query_bank: StoredBank, before: str
) -> dict[str, str]:
    """Small pictures of all images that the details mention."""
    keys = _keys(details)
    queries = {key for key in keys if before and key.startswith(before)}
    pictures = pictures_of(stored, keys - queries)
    if queries:
        drawn = pictures_of(query_bank, [key.removeprefix(before) for key in queries])
        pictures |= {before + key: picture for key, picture in drawn.items()}
    return pictures


def look_closer(
    look: Look,
    stored: StoredBank,
    query_bank: StoredBank,
    methods: Sequence[Method] = (),
    method: str = "",
) -> Details:
    """Compute all details but the pictures, bounded in size but for a number a class and method."""
    focus = _focus(look, method)
    features = _mean_views(stored, look.support[0])
    details = Details(
        split=look.split,
        shots=look.shots,
        draws=len(focus.predicted),
        reference=REFERENCE,
        method=focus.method,
        changes=class_changes(look),
        confusions=confusions(look, focus, stored.keys),
        reliability={name: reliability(look, each) for name, each in look.predicted.items()},
        mistakes=mistakes(look, focus, stored, query_bank, features),
    )
    adapters = [each for each in methods if isinstance(each.adapter, MetaAdapter)]
    shown = next((each for each in adapters if each.name in look.predicted), None)
    if shown is None or REFERENCE not in look.predicted:
        return details
    return _with_attention(details, look, stored, shown, features)


def _with_attention(
    details: Details,
    look: Look,
    stored: StoredBank,
    method: Method,
    features: Float[np.ndarray, "way shot dim"],
) -> Details:
    """Say what the Meta-Adapter attends to, in the first draw."""
    assert stored.text_features is not None, "the Meta-Adapter reads text"
    adapter, rows = cast(MetaAdapter, method.adapter), look.support[0]
    attention = attention_of(
        method.params,
        stored.text_features[look.classes],
        features,
        rows >= 0,
        heads=adapter.heads,
        text_in_keys=adapter.text_in_keys,
    )
    before, after = (
        class_accuracy(look, look.predicted[name]) for name in (REFERENCE, method.name)
    )
    keys = np.array(["", *stored.keys], object)[np.where(rows >= 0, rows + 1, 0)]
    gates, classes = gates_and_attention(attention, look.names, keys, before, after)
    return replace(details, gates=gates, attention=classes, attention_method=method.name)


def _focus(look: Look, named: str) -> Predicted:
    """The method that was named, else the most accurate of those that are honest."""
    if named in look.predicted:
        return look.predicted[named]
    honest = [each for name, each in look.predicted.items() if not name.endswith(SUFFIX)]
    return max(honest, key=lambda each: float(right_predictions(look, each).mean()))


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
