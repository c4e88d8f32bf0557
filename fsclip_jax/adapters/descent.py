"""Gradient descent on the support of one task: what the trained methods share.

A method hands in a loss of one minibatch and the values to start from; the descent is a
``lax.scan`` inside ``fit``, so ``vmap`` over tasks, seeds and learning rates trains all of them
at once. The learning rate is traced. Where a task has stored views, every step draws one of them
at random: they stand in for fresh augmentation.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from fsclip_jax.episodes.task import Task
from fsclip_jax.typing import Array, Bool, Float, Int, Params, PRNGKeyArray, Scalar

EPS_ROOT = 1e-16
"""Added below the root of Adam: the derivative of the root at zero is infinite, and gradients may
be taken through a whole fit. It raises a root by 1e-8 at most."""

MOMENTUM = 0.9

MOST_LOGITS = 40_000_000
"""Logits that the linear methods compute in training at most: all published epochs where classes
are a few hundred, and 10 epochs of 4 shots of 1,000 classes, where more gained nothing."""


class LabelledRows(NamedTuple):
    """Labelled images, one below the other, every view of each; what is not kept counts nowhere."""

    features: Float[Array, "row view dim"]
    labels: Int[Array, " row"]
    kept: Bool[Array, " row"]


class Batch(NamedTuple):
    """What one step sees: one view of each image, in float32.

    A weight is 1, or 0 for rows that count nowhere. ``place`` is where each row is in
    :class:`LabelledRows`, for what is known of every row beforehand.
    """

    features: Float[Array, "row dim"]
    labels: Int[Array, " row"]
    weights: Float[Array, " row"]
    place: Int[Array, " row"]


class Descent(NamedTuple):
    """What was learned, the loss before every step, and what ``descend`` kept of every epoch."""

    params: Any
    losses: Float[Array, " step"]
    epochs: Params | None = None


class Recipe(NamedTuple):
    """How to descend, but for the learning rate, which is traced.

    Attributes:
        optimizer: from a schedule to an optax transformation, such as :func:`adamw` gives.
    """

    optimizer: "Optimizer"
    epochs: int
    batch: int
    keep_epochs: bool = False


Loss: TypeAlias = Callable[[Params, Batch], Scalar]
Carry: TypeAlias = tuple[Params, optax.OptState]
Step: TypeAlias = Callable[[Carry, Batch], tuple[Carry, Scalar]]
Optimizer: TypeAlias = Callable[[optax.Schedule], optax.GradientTransformation]


def support_rows(task: Task) -> LabelledRows:
    """List the support images, class after class, with their views where there are any.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_task
        >>> task, _ = example_task(way=3, shot=2)
        >>> rows = support_rows(task)
        >>> rows.features.shape, rows.labels.tolist()
        ((6, 1, 8), [0, 0, 1, 1, 2, 2])
    """
    way, shot, dim = task.support.shape
    views = task.support[:, :, None] if task.views is None else task.views
    labels = jnp.repeat(jnp.arange(way, dtype=jnp.int32), shot)
    return LabelledRows(views.reshape(way * shot, -1, dim), labels, task.support_mask.reshape(-1))


def with_text(rows: LabelledRows, task: Task) -> LabelledRows:
    """Add the text feature of every class as one more image of it."""
    way, dim = task.text.shape
    views = rows.features.shape[1]
    text = jnp.broadcast_to(task.text[:, None], (way, views, dim)).astype(rows.features.dtype)
    return LabelledRows(
        jnp.concatenate([rows.features, text]),
        jnp.concatenate([rows.labels, jnp.arange(way, dtype=jnp.int32)]),
        jnp.concatenate([rows.kept, jnp.ones(way, bool)]),
    )


def steps_of_an_epoch(rows: int, batch: int) -> int:
    """Return how many minibatches of at most ``batch`` rows an epoch has.

    Example:
        >>> steps_of_an_epoch(20, 256), steps_of_an_epoch(257, 256)
        (1, 2)
    """
    return max(1, -(-rows // batch))


def affordable_epochs(rows: LabelledRows, way: int, epochs: int, most_logits: int) -> int:
    """Return as many epochs as a number of logits allows, ``epochs`` at most, one at least.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_task
        >>> rows = support_rows(example_task(way=3, shot=2)[0])
        >>> affordable_epochs(rows, way=3, epochs=100, most_logits=450)
        25
    """
    return max(1, min(epochs, most_logits // max(1, len(rows.labels) * way)))


def draw_epoch(
    key: PRNGKeyArray, rows: int, views: int, batch: int
) -> tuple[Int[Array, "step row"], Int[Array, " step"], Bool[Array, "step row"]]:
    """Draw the minibatches of one epoch, each image once.

    They are equally large, so the last is no remainder. An epoch of one minibatch takes the rows
    as they are: then their order decides nothing. All images of a minibatch are seen in the same
    view; which crop of one image goes with which of another is chance, so this is as random as
    a view for each, and it leaves a fit independent of the order of classes and shots.

    Args:
        key: randomness of the order and of the views.
        batch: most rows of a minibatch.

    Example:
        >>> index, view, real = draw_epoch(jax.random.key(0), rows=5, views=1, batch=3)
        >>> index.shape, view.shape, sorted(index[real].tolist())
        ((2, 3), (2,), [0, 1, 2, 3, 4])
    """
    steps = steps_of_an_epoch(rows, batch)
    size = -(-rows // steps)
    order_key, view_key = jax.random.split(key)
    order = jnp.arange(rows, dtype=jnp.int32)
    if steps > 1:
        order = jax.random.permutation(order_key, order)
    index = jnp.pad(order, (0, steps * size - rows)).reshape(steps, size)
    real = (jnp.arange(steps * size) < rows).reshape(steps, size)
    return index, jax.random.randint(view_key, (steps,), 0, views, jnp.int32), real


def cross_entropy(logits: Float[Array, "row way"], batch: Batch) -> Scalar:
    """Mean over the rows that count of ``logsumexp(logits) - logits[label]``; 0 if none does."""
    # A comparison, not an index: its derivative needs no scatter.
    own = batch.labels[:, None] == jnp.arange(logits.shape[-1])[None, :]
    nll = jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(own, logits, 0), axis=-1)
    return jnp.sum(batch.weights * nll) / jnp.maximum(jnp.sum(batch.weights), 1)


def adamw(eps: float = 1e-8, weight_decay: float = 0.01) -> Optimizer:
    """Return AdamW with PyTorch's defaults, to be given a schedule."""
    return lambda schedule: optax.adamw(
        schedule, eps=eps, eps_root=EPS_ROOT, weight_decay=weight_decay
    )


def adam(eps: float = 1e-8, weight_decay: float = 0.0) -> Optimizer:
    """Return Adam with PyTorch's defaults, to be given a schedule.

    With weight decay as PyTorch's Adam has it, in the gradient: ``g + decay p``.
    """

    def make(schedule: optax.Schedule) -> optax.GradientTransformation:
        step = optax.adam(schedule, eps=eps, eps_root=EPS_ROOT)
        return optax.chain(optax.add_decayed_weights(weight_decay), step) if weight_decay else step

    return make


def sgd(weight_decay: float = 0.0) -> Optimizer:
    """Return gradient descent with the published momentum, to be given a schedule.

    With weight decay as PyTorch has it: ``m = 0.9 m + g + decay p``, ``p = p - rate m``.
    """

    def make(schedule: optax.Schedule) -> optax.GradientTransformation:
        step = optax.sgd(schedule, momentum=MOMENTUM)
        return optax.chain(optax.add_decayed_weights(weight_decay), step) if weight_decay else step

    return make


def make_step(loss: Loss, tool: optax.GradientTransformation) -> Step:
    """Return the step of a scan: parameters and optimiser state, moved by one batch; the loss."""

    def step(carry: Carry, batch: Batch) -> tuple[Carry, Scalar]:
        params, memory = carry
        value, gradient = jax.value_and_grad(loss)(params, batch)
        update, memory = tool.update(gradient, memory, params)
        return (optax.apply_updates(params, update), memory), value

    return step


def descend(
    loss: Loss,
    start: Params,
    rows: LabelledRows,
    key: PRNGKeyArray,
    rate: Float[Array, ""] | float,
    recipe: Recipe,
) -> Descent:
    """Minimise a loss over minibatches of labelled images.

    Step ``t`` of ``T`` has the learning rate ``rate (1 + cos(pi t / T)) / 2``. With no more
    rows than a batch every step sees them all.

    Args:
        loss: of parameters and a minibatch, a mean over the rows whose weight is not 0; see
            :func:`cross_entropy`. Only what is in ``start`` is differentiated.
        key: randomness of the minibatches and their views; epoch ``e`` uses the ``e``-th of
            ``jax.random.split(key, epochs)`` in :func:`draw_epoch`.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_task
        >>> task, _ = example_task(way=3, shot=2)
        >>> def loss(weights, batch):
        ...     return cross_entropy(batch.features @ weights.T, batch)
        >>> recipe = Recipe(adamw(), epochs=5, batch=256)
        >>> end = descend(loss, task.text, support_rows(task), jax.random.key(0), 0.1, recipe)
        >>> bool(end.losses[-1] < end.losses[0])
        True
    """
    count, views, dim = rows.features.shape
    steps = recipe.epochs * steps_of_an_epoch(count, recipe.batch)
    tool = recipe.optimizer(optax.cosine_decay_schedule(rate, steps))
    step, every_view = make_step(loss, tool), rows.features.reshape(count * views, dim)

    def look(carry: Carry, drawn: tuple[Array, Array, Array]) -> tuple[Carry, Scalar]:
        index, view, real = drawn
        batch = Batch(
            features=every_view[index * views + view].astype(jnp.float32),
            labels=rows.labels[index],
            weights=(real & rows.kept[index]).astype(jnp.float32),
            place=index,
        )
        return step(carry, batch)

    def epoch(carry: Carry, key: PRNGKeyArray) -> tuple[Carry, tuple[Array, Params | None]]:
        carry, losses = jax.lax.scan(look, carry, draw_epoch(key, count, views, recipe.batch))
        return carry, (losses, carry[0] if recipe.keep_epochs else None)

    (params, _), (losses, kept) = jax.lax.scan(
        epoch, (start, tool.init(start)), jax.random.split(key, recipe.epochs)
    )
    return Descent(params, losses.reshape(-1), kept)
