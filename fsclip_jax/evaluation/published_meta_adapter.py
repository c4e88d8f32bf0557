"""Meta-Adapter as its published code trains and tests it, for comparison with published tables.

The code differs from the paper, and from what this package calls honest, in ways that move the
numbers. :class:`PublishedRun` lists what is copied. Nothing here is used by any other row.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from fsclip_jax.adapters.meta_adapter import init_params, refine
from fsclip_jax.episodes.gather import gather_support
from fsclip_jax.episodes.sampler import sample_support
from fsclip_jax.features.bank import Bank, largest_class
from fsclip_jax.numerics import cosine_logits
from fsclip_jax.typing import Array, Bool, Float, Int, Params, PRNGKeyArray


@dataclass(frozen=True)
class PublishedRun:
    """What the published code does, each with the number it has there.

    - One data set: the base classes' few training images teach, and the very classes that are
      tested later are among the negatives of every step, with their shots.
    - A first-in-first-out support: after each step, the images of the batch push the oldest
      shots of their class out. The test then sees that support, not the one that was drawn.
    - The support starts as the mean over views; what is pushed in is a single view.
    - Weights and moments in half precision, with AdamW's epsilon raised to 1e-4 and
      a learning rate that falls from its peak by a cosine schedule.
    - The test images are as many as the shots, for each novel class, drawn with replacement
      where there are too few; the epoch that does best on them is reported.
    """

    epochs: int = 5
    batch: int = 64
    learning_rate: float = 1e-4
    eps: float = 1e-4
    half: bool = True


PUBLISHED_RUN = PublishedRun()
"""The numbers of the published code."""


class Images(NamedTuple):
    """Labelled images of a run, in every view; labels are places among all classes."""

    views: Float[Array, "image view dim"]
    labels: Int[Array, " image"]
    kept: Bool[Array, " image"]


class PublishedData(NamedTuple):
    """What one run of the published code is given."""

    text: Float[Array, "way dim"]
    support: Float[Array, "way shot dim"]
    support_mask: Bool[Array, "way shot"]
    train: Images
    test: Images
    logit_scale: Float[Array, ""]


def draw_published(
    key: PRNGKeyArray,
    support_bank: Bank,
    train_bank: Bank,
    test_bank: Bank,
    base: Int[Array, " base"],
    novel: Int[Array, " novel"],
    shots: int,
) -> PublishedData:
    """Draw support, training and test images as the published code does.

    The three draws know nothing of each other. ``support_bank`` has the val images, or the train
    images where there are none; then support and training images may be the same.
    """
    support_key, train_key, test_key, again_key = jax.random.split(key, 4)
    every = jnp.arange(support_bank.text.shape[0], dtype=jnp.int32)
    index, mask = sample_support(
        support_key, support_bank, every, shots, largest_class(support_bank)
    )
    task = gather_support(support_bank, every, index, mask)
    rows, kept = sample_support(train_key, train_bank, base, shots, largest_class(train_bank))
    train = _images(train_bank, rows, kept, base)
    asked, first = sample_support(test_key, test_bank, novel, shots, largest_class(test_bank))
    sizes, starts = test_bank.sizes[novel][:, None], test_bank.starts[novel][:, None]
    again = starts + jax.random.randint(again_key, asked.shape, 0, jnp.maximum(sizes, 1))
    test = _images(
        test_bank, jnp.where(first, asked, again), jnp.broadcast_to(sizes > 0, first.shape), novel
    )
    return PublishedData(task.text, task.support, mask, train, test, task.logit_scale)


def _images(bank: Bank, rows: Array, kept: Array, classes: Array) -> Images:
    flat = rows.reshape(-1)
    views = jnp.swapaxes(bank.features[:, flat], 0, 1)
    return Images(views, jnp.repeat(classes, rows.shape[1]), kept.reshape(-1))


@partial(jax.jit, static_argnames="run")
def published_accuracies(
    key: PRNGKeyArray, data: PublishedData, run: PublishedRun = PUBLISHED_RUN
) -> tuple[Float[Array, " epoch"], Int[Array, "epoch image"]]:
    """Train as published; return percent right on test after every epoch, and the predictions.

    Source: Cheng et al., "Meta-Adapter: An Online Few-shot Learner for Vision-Language Model";
    the published code's choices as :class:`PublishedRun` lists them.
    """
    start_key, key = jax.random.split(key)
    dtype = jnp.float16 if run.half else jnp.float32
    params = jax.tree.map(
        lambda leaf: leaf.astype(dtype), init_params(start_key, data.text.shape[-1])
    )
    images, views = data.train.views.shape[:2]
    steps = -(-images // run.batch)
    rate = optax.cosine_decay_schedule(run.learning_rate, run.epochs * steps)
    optimizer = optax.adamw(rate, eps=run.eps, weight_decay=1e-2)

    def step(carry: tuple, index: Array) -> tuple[tuple, None]:
        params, moments, support, key = carry
        key, view_key = jax.random.split(key)
        real = index < images
        index = jnp.where(real, index, 0)
        view = jax.random.randint(view_key, index.shape, 0, views)
        batch = data.train.views[index, view]
        labels, kept = data.train.labels[index], data.train.kept[index] & real

        def loss(params: Params) -> Array:
            logits = _logits(params, data, support, batch)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.sum(losses * kept) / jnp.maximum(kept.sum(), 1)

        grads = jax.grad(loss)(params)
        updates, moments = optimizer.update(grads, moments, params)
        params = jax.tree.map(
            lambda leaf, change: leaf + change.astype(leaf.dtype), params, updates
        )
        return (params, moments, push_all(support, batch, labels, kept), key), None

    def epoch(carry: tuple, _: None) -> tuple[tuple, tuple[Array, Array]]:
        *rest, key = carry
        key, order_key = jax.random.split(key)
        order = jax.random.permutation(order_key, images)
        order = jnp.pad(order, (0, steps * run.batch - images), constant_values=images)
        carry, _ = jax.lax.scan(step, (*rest, key), order.reshape(steps, run.batch))
        best = _logits(carry[0], data, carry[2], data.test.views[:, 0]).argmax(-1)
        right = jnp.sum((best == data.test.labels) & data.test.kept)
        return carry, (100 * right / jnp.maximum(data.test.kept.sum(), 1), best)

    begin = (params, optimizer.init(params), data.support, key)
    _, told = jax.lax.scan(epoch, begin, length=run.epochs)
    return told


def _logits(
    params: Params,
    data: PublishedData,
    support: Float[Array, "way shot dim"],
    images: Float[Array, "image dim"],
) -> Float[Array, "image way"]:
    weights = refine(params, data.text, support, data.support_mask)
    return cosine_logits(images, weights, data.logit_scale)


def push_all(
    support: Float[Array, "way shot dim"],
    images: Float[Array, "image dim"],
    labels: Int[Array, " image"],
    kept: Bool[Array, " image"],
) -> Float[Array, "way shot dim"]:
    """Push images, the newest first, into the support; as many of the oldest of a class leave it.

    Example:
        >>> support = jnp.array([[[1.0], [2.0]], [[3.0], [4.0]]])
        >>> push_all(support, jnp.array([[9.0]]), jnp.array([1]), jnp.array([True])).tolist()
        [[[1.0], [2.0]], [[9.0], [3.0]]]
    """

    def push(support: Array, image: tuple[Array, Array, Array]) -> tuple[Array, None]:
        feature, label, stays = image
        old = support[label]
        new = jnp.concatenate([feature[None], old[:-1]])
        return support.at[label].set(jnp.where(stays, new, old)), None

    pushed, _ = jax.lax.scan(push, support, (images, labels, kept))
    return pushed
