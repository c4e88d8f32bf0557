"""Labelled pictures held out in turn: the one pass that all that is said of a fit rests on.

Which method is taken, the temperature, what counts as unknown and the report share it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.episodes.task import Task, take_tasks
from fsclip_jax.fitting.draws import Draws
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.fitted import Fitted, fit, logits_of
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import MOST_FOLDS, Choice, kept_without
from fsclip_jax.numerics import l2_normalize, namespace_of
from fsclip_jax.typing import Bool, Float, Int

BATCH = 256
"""Pictures that are classified together: always so many, so that the probabilities of one do not
depend on its company, and held-out pictures need no compile of their own."""


class HeldOut(NamedTuple):
    """Labelled pictures, each classified by a fit that did not see it.

    Attributes:
        slots: place of each in the support, ``class * shots + shot``.
        same: largest cosine to a picture of the class that stayed in the support.
        other: largest cosine to a picture of any other class that stayed.
    """

    logits: Float[np.ndarray, "n way"]
    labels: Int[np.ndarray, " n"]
    slots: Int[np.ndarray, " n"]
    same: Float[np.ndarray, " n"]
    other: Float[np.ndarray, " n"]

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """True where the class with the largest logit is the label."""
        return np.asarray(self.logits.argmax(-1) == self.labels)


class Folds(NamedTuple):
    """The parts of a support that are held out in turn, one a row.

    Attributes:
        kept: what stays in the support.
        asked: what is held out and asked: every picture once, where its class keeps another.
        same: largest cosine of a picture that is asked to those of its class that are kept.
        other: the same to those of all other classes.
    """

    kept: Bool[np.ndarray, "fold way shot"]
    asked: Bool[np.ndarray, "fold way shot"]
    same: Float[np.ndarray, "way shot"]
    other: Float[np.ndarray, "way shot"]


def folds_of(draws: Draws) -> Folds:
    """Split the shots of one draw as ``fitting.selection.select_held_out`` does.

    Fold ``f`` of at most four holds out the shots ``f, f + folds, ...`` of every class, and their
    family with them. A single shot makes none.
    """
    mask = np.asarray(draws.task.support_mask)[0]
    shots = mask.shape[1]
    folds = min(shots, MOST_FOLDS) if shots > 1 else 0
    held = np.arange(shots) % max(folds, 1) == np.arange(folds)[:, None]
    kept = np.zeros((folds, *mask.shape), bool)
    for fold in range(folds):
        kept[fold] = kept_without(draws, held[fold])[0]
    asked = mask & held[:, None, :] & kept.any(-1, keepdims=True)
    plain = np.asarray(draws.plain)[0]
    same, other = (np.full(mask.shape, -1, np.float32) for _ in range(2))
    for stays, some in zip(kept, asked, strict=True):
        same[some], other[some] = _nearest(plain[some], np.nonzero(some)[0], plain, stays)
    return Folds(kept, asked, same, other)


def fit_held_out(
    engine: Engine,
    method: Method,
    choice: Choice,
    draws: Draws,
    folds: Folds,
    *,
    own_text: bool = True,
) -> tuple[Fitted, HeldOut]:
    """Fit a method to a whole support, and to what stays of it in every fold.

    All are fits of one shape, side by side: what is held out is masked, not cut away.

    Args:
        own_text: the text does not come from the pictures; otherwise it is the mean of those
            that stay.
    """
    number = 1 + len(folds.kept)
    kept: Any = np.concatenate([np.asarray(draws.task.support_mask), folds.kept])
    tasks = _masked(draws.task, kept, own_text)
    if choice.per_draw:
        params = jax.tree.map(lambda leaf: np.repeat(leaf[:1], number, axis=0), choice.params)
        choice = choice._replace(params=params)
    fitted = fit(engine, method, choice, tasks)
    state = jax.device_get(fitted.state)
    fitted = Fitted(method, choice, state, number, fitted.fit_seconds)
    return fitted.draw(0), _ask(fitted, draws, folds)


def _masked(task: Task, kept: Bool[Any, "fold way shot"], own_text: bool) -> Task:
    many = take_tasks(task, np.zeros(len(kept), np.int32))
    xp = namespace_of(many.support)
    support = xp.where(kept[..., None], many.support, xp.float32(0))
    masked = many._replace(support=support, support_mask=kept)
    if not own_text:
        masked = masked._replace(text=l2_normalize(jnp.asarray(support.sum(2))))
    if many.views is None:
        return masked
    return masked._replace(views=xp.where(kept[..., None, None], many.views, 0))


def _ask(fitted: Fitted, draws: Draws, folds: Folds) -> HeldOut:
    """Classify what each fold holds out by its own fit, which is one behind that to the whole."""
    plain = np.asarray(draws.plain)[0]
    way, shots, dim = plain.shape
    none, no_label = np.zeros(0, np.float32), np.zeros(0, np.int32)
    parts = [HeldOut(np.zeros((0, way), np.float32), no_label, no_label, none, none)]
    same, other = folds.same.reshape(-1), folds.other.reshape(-1)
    for fold, asked in enumerate(folds.asked):
        slots = np.flatnonzero(asked).astype(np.int32)
        features, labels = plain.reshape(-1, dim)[slots], slots // shots
        (logits,) = logits_of(fitted.draw(fold + 1), features, BATCH)
        parts.append(HeldOut(logits, labels, slots, same[slots], other[slots]))
    return HeldOut(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def _nearest(
    features: Float[np.ndarray, "n dim"],
    labels: Int[np.ndarray, " n"],
    support: Float[np.ndarray, "way shot dim"],
    kept: Bool[np.ndarray, "way shot"],
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Largest cosine of each picture to those of its class that stay, and to all others."""
    way, shots, dim = support.shape
    same, other = (np.full(len(features), -1, np.float32) for _ in range(2))
    for low in range(0, len(features), BATCH):
        rows = slice(low, low + BATCH)
        cosines = features[rows] @ support.reshape(way * shots, dim).T
        of_class = np.where(kept, cosines.reshape(-1, way, shots), -1).max(-1)
        own = labels[rows, None]
        same[rows] = np.take_along_axis(of_class, own, 1)[:, 0]
        np.put_along_axis(of_class, own, -1, 1)
        other[rows] = of_class.max(-1)
    return same, other
