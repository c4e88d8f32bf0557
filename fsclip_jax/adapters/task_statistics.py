"""What a task says of itself: how fine its classes are, how far its text can be trusted."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import masked_mean
from fsclip_jax.typing import Array, Float

STATISTICS = (
    "shots", "way", "text_far", "text_near", "spread", "within",
    "right", "loss", "agreement", "sure", "correlation",
)  # fmt: skip
"""Names of :func:`statistics`, in their order."""

CUT = 2.5
"""Statistics end here: what they steer stays where it was beyond what was trained on."""

_LEAST = 1e-9


class Seen(NamedTuple):
    """The shots of a task, less the mean of their class means.

    Attributes:
        kept: 1 for a row that is there.
        number: shots of every class.
        means: of every class; zero without a shot.
        gram, scatter: sums of outer products, the second around the means of the classes.
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
    way, shot, dim = task.support.shape
    shots, mask = task.support.astype(jnp.float32), task.support_mask
    count = mask.sum(-1).astype(jnp.float32)
    present = (count > 0).astype(jnp.float32)
    pictures, classes = jnp.maximum(count.sum(), 1.0), jnp.maximum(present.sum(), 1.0)
    means = masked_mean(shots, mask)
    centre = means.sum(0) / classes
    means = (means - centre[None]) * present[:, None]
    kept = mask.reshape(-1, 1).astype(jnp.float32)
    rows = (shots.reshape(way * shot, dim) - centre[None]) * kept
    gram = rows.T @ rows
    scatter = gram - (means * count[:, None]).T @ means
    total, free = jnp.trace(gram) / pictures, jnp.maximum(pictures - classes, 0.0)
    within = (jnp.trace(scatter) + 2.8 * total) / (free + 4.0)
    return Seen(centre, rows, kept, count, means, gram, scatter, total, within, free, dim)


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
    logs = jax.nn.log_softmax(text_logits, axis=-1)
    pictures = jnp.maximum(seen.number.sum(), 1.0)

    def mean(x: Float[Array, "row 1"]) -> Float[Array, ""]:
        return jnp.sum(x * seen.kept) / pictures

    right = mean((logs.argmax(-1)[:, None] == own).astype(jnp.float32))
    loss = -mean(jnp.take_along_axis(logs, own, axis=-1))
    return right, loss, mean(jnp.exp(logs.max(-1, keepdims=True)))


def _log(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.log(jnp.maximum(x, _LEAST))


def _root(x: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.sqrt(x + _LEAST**2)
