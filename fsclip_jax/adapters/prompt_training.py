"""The published training of prompts: SGD with momentum, a warm-up, a cosine, minibatches."""

import jax
import jax.numpy as jnp
import optax

from fsclip_jax.adapters.descent import Batch, Descent, LabelledRows, Loss, make_step, sgd
from fsclip_jax.typing import Array, Float, Int, Params, PRNGKeyArray

WEIGHT_DECAY = 5e-4
WARM_UP_RATE = 1e-5
WARM_UP_PART = 50
"""One step in 50 warms up: one epoch of the 50 that the paper trains with one shot."""


def draw_batch(rows: LabelledRows, size: int, key: PRNGKeyArray, step: Int[Array, ""]) -> Batch:
    """Take the images of a step: epochs of shuffled images, what does not fill a batch left out.

    A step sees one view, drawn anew, of all of its images: ``size`` of them, or all if there are
    no more. ``key`` is that of the whole training.
    """
    count, views, _ = rows.features.shape
    order = jnp.arange(count)
    view_key, order_key = jax.random.split(key)
    if count > size:
        epoch_steps = jnp.maximum(rows.kept.sum() // size, 1)
        shuffle = jax.random.uniform(jax.random.fold_in(order_key, step // epoch_steps), (count,))
        order = jnp.argsort(jnp.where(rows.kept, shuffle, 2.0))  # absent images come last
        order = jax.lax.dynamic_slice(order, [step % epoch_steps * size], [size])
    view = jax.random.randint(jax.random.fold_in(view_key, step), (), 0, views)
    return Batch(
        features=rows.features[order, view].astype(jnp.float32),
        labels=rows.labels[order],
        weights=rows.kept[order].astype(jnp.float32),
        place=order,
    )


def prompt_schedule(peak: Float[Array, ""] | float, steps: int) -> optax.Schedule:
    """A small constant for the first steps, then half a cosine down to zero.

    Example:
        >>> rate = prompt_schedule(0.002, 100)
        >>> [round(float(rate(jnp.int32(step))), 6) for step in (0, 2, 50)]
        [1e-05, 0.001998, 0.001]
    """
    falling = optax.cosine_decay_schedule(peak, steps)
    warm = max(1, steps // WARM_UP_PART)
    return lambda step: jnp.where(step < warm, WARM_UP_RATE, falling(step))


def learn_prompt(
    loss: Loss,
    start: Params,
    rows: LabelledRows,
    key: PRNGKeyArray,
    peak: Float[Array, ""],
    *,
    steps: int,
    batch: int,
) -> Descent:
    """Train parameters with SGD: ``m = 0.9 m + g + 5e-4 p``, ``p = p - rate m``.

    The rate is that of :func:`prompt_schedule`, the images those of :func:`draw_batch`.

    Source: Zhou et al., "Learning to Prompt for Vision-Language Models", section 4.1; weight
    decay and momentum from the settings of its code.
    """
    tool = sgd(WEIGHT_DECAY)(prompt_schedule(peak, steps))
    step = make_step(loss, tool)
    (trained, _), losses = jax.lax.scan(
        lambda carry, index: step(carry, draw_batch(rows, batch, key, index)),
        (start, tool.init(start)),
        jnp.arange(steps),
    )
    return Descent(trained, losses)
