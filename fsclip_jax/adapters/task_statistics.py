"""What a task says of itself: how fine its classes are, how far its text can be trusted."""

from typing import NamedTuple

import jax.numpy as jnp

from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import masked_mean
from fsclip_jax.typing import Array, Bool, Float

STATISTICS = (
    "shots", "way", "text_far", "text_near", "spread", "within",
    "right", "loss", "agreement", "sure", "correlation",
)  # fmt: skip
"""Names of :func:`statistics`, in their order."""

CUT = 2.5
"""Statistics end here: what they steer stays where it was beyond what was trained on."""

ENOUGH = 1.5
"""Shots as a multiple of the width from which every other, every third... is enough to measure how
classes scatter."""

_LEAST = 1e-9


class Seen(NamedTuple):
    """The shots of a task, less the mean of their class means.

    Attributes:
        kept: 1 for a row that is there.
        number: shots of every class.
        means: of every class; zero without a shot.
        gram, scatter: sums of outer products, the second around the means of the classes; see
            :data:`ENOUGH`.
        total, within: mean squared length of a row, and around the mean of its class.
        free: shots less classes that have some.
        width: of the features.
    """

    centre: Float[Array, " dim"]
    rows: Float[Array, "row dim"]
    kept: Float[Array, "row 1"]
    number: Float[Array, " way"]
    means: Float[Array, "way dim"]
    gram: Float[Array, "dim dim"]
    scatter: Float[Array, "dim dim"]
    total: Float[Array, ""]
    within: Float[Array, ""]
    free: Float[Array, ""]
    width: float


def look_at(task: Task) -> Seen:
    """Centre the shots of a task, and measure how they spread.

    Where few classes have a second shot, ``within`` leans on 0.7 of ``total``, as if four such
    pictures had been seen.
    """
    dim = task.support.shape[-1]
    shots, mask = task.support.astype(jnp.float32), task.support_mask
    count = mask.sum(-1).astype(jnp.float32)
    present = (count > 0).astype(jnp.float32)
    pictures, classes = jnp.maximum(count.sum(), 1.0), jnp.maximum(present.sum(), 1.0)
    means = masked_mean(shots, mask)
    centre = means.sum(0) / classes
    means = (means - centre[None]) * present[:, None]
    rows = (shots - centre[None, None]) * mask[..., None]
    between = (means * count[:, None]).T @ means
    scatter = _scatter(rows, means, mask)
    total, free = jnp.square(rows).sum() / pictures, jnp.maximum(pictures - classes, 0.0)
    within = (jnp.maximum(total * pictures - jnp.trace(between), 0.0) + 2.8 * total) / (free + 4.0)
    rows, kept = rows.reshape(-1, dim), mask.reshape(-1, 1).astype(jnp.float32)
    gram = scatter + between
    return Seen(centre, rows, kept, count, means, gram, scatter, total, within, free, dim)


def _scatter(
    rows: Float[Array, "way shot dim"],
    means: Float[Array, "way dim"],
    mask: Bool[Array, "way shot"],
) -> Float[Array, "dim dim"]:
    """Sum of outer products around the means, of every so many shots where they are plenty."""
    way, shot, dim = rows.shape
    # Of a program that is exported for any number of shots: all of them.
    known = isinstance(way, int) and isinstance(shot, int)
    every = max(1, min(shot, int(way * shot / (ENOUGH * dim)))) if known else 1
    some = (rows[:, ::every] - means[:, None]) * mask[:, ::every, None]
    some = some.reshape(-1, dim)
    more = mask.sum() / jnp.maximum(mask[:, ::every].sum(), 1)
    return more * (some.T @ some)


def statistics(
    task: Task, seen: Seen, text_logits: Float[Array, "row way"]
) -> Float[Array, " statistic"]:
    """Say what kind of task it is, in numbers that no rotation of the features changes.

    Logarithms of the shots a class, of the way, and of how far text vectors are from each other
    and from the nearest, in logits; of the spread of the shots; its share within classes. Of
    zero-shot on the shots: share right, logarithm of the loss, mean largest probability. Of the
    class means: how much nearer they are to their own text than to others', and how they vary
    with it. Shifted and scaled to about -1 to 1 on photographs, and cut at :data:`CUT`.

    Args:
        text_logits: zero-shot logits of all shots as rows.
    """
    scale, means = task.logit_scale, seen.means
    text = task.text.astype(jnp.float32)
    far, near = _distances(text)
    right, loss, sure = _of_zero_shot(seen, text_logits)
    present = (seen.number > 0).astype(jnp.float32)
    pictures, classes = jnp.maximum(seen.number.sum(), 1.0), jnp.maximum(present.sum(), 1.0)

    text = text - text.mean(0, keepdims=True)
    with_text = means @ text.T
    own = jnp.trace(with_text)
    size = _root(jnp.square(with_text).sum() / classes)
    sizes = _root(jnp.square(means).sum() * jnp.square(text).sum())
    found = (
        _log(pictures / classes), _log(jnp.asarray(text.shape[0], jnp.float32)) - 3.5,
        _log(far * scale) - 3.0, _log(near * scale) - 2.0, _log(seen.total) + 0.9,
        4.0 * (seen.within / jnp.maximum(seen.total, _LEAST) - 0.7),
        3.0 * (right - 0.6), jnp.log(loss + 0.1), 3.0 * (own / classes / size - 0.6),
        3.0 * (sure - 0.6), 8.0 * (own / sizes - 0.3),
    )  # fmt: skip
    return jnp.clip(jnp.stack(found), -CUT, CUT)


def _distances(text: Float[Array, "way dim"]) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """One less cosine: mean over all pairs, and to the nearest."""
    way = text.shape[0]
    cosines, others = text @ text.T, 1.0 - jnp.eye(way)
    far = jnp.sum((1.0 - cosines) * others) / (way * max(way - 1, 1))
    return far, jnp.mean(1.0 - jnp.max(jnp.where(others > 0, cosines, -2.0), axis=-1))


def _of_zero_shot(
    seen: Seen, text_logits: Float[Array, "row way"]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Means over the shots: whether right, loss, largest probability."""
    rows, way = text_logits.shape
    own = jnp.repeat(jnp.arange(way), rows // way)[:, None]
    own_logit = jnp.take_along_axis(text_logits, own, axis=-1)
    top = text_logits.max(-1, keepdims=True)
    spread = jnp.log(jnp.exp(text_logits - top).sum(-1, keepdims=True))
    pictures = jnp.maximum(seen.number.sum(), 1.0)

    def mean(x: Float[Array, "row 1"]) -> Float[Array, ""]:
        return jnp.sum(x * seen.kept) / pictures

    right = mean((own_logit >= top).astype(jnp.float32))
    return right, mean(spread + top - own_logit), mean(jnp.exp(-spread))


def _log(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.log(jnp.maximum(x, _LEAST))


def _root(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.sqrt(x + _LEAST**2)
