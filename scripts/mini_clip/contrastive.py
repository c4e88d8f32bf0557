"""Contrastive training of an image and a text tower from scratch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from icon_augment import augment

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.model import Clip
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Array, Bool, Float, Int, Params, PRNGKeyArray, UInt8

MAX_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class ContrastiveConfig:
    """Recipe of a contrastive training run."""

    steps: int = 4000
    """Optimiser steps; the cosine ends there."""
    batch: int = 512
    """Pairs in a step."""
    learning_rate: float = 2e-3
    """Peak of the schedule."""
    warmup_steps: int = 200
    """Steps of linear warm-up."""
    weight_decay: float = 0.05
    """Of the matrices, decoupled."""
    clip_norm: float = 1.0
    """Global norm that gradients are clipped to."""
    ema_decay: float = 0.998
    """Of the running mean of the weights, which is what gets exported."""
    seed: int = 0
    """Of the weights, the order of the data and the augmentation."""


class PairBatch(NamedTuple):
    """Pictures and glyphs, and the names of both in that order.

    Attributes:
        pictures: multi-colour pictures on white.
        glyphs: one-colour icons with their areas.
        ids: token ids of each name.
        names: number of each name; pairs of one number are positives of each other.
    """

    pictures: UInt8[Array, "n side side 3"]
    glyphs: UInt8[Array, "m side side 2"]
    ids: Int[Array, "batch length"]
    names: Int[Array, "batch"]


class ContrastiveState(NamedTuple):
    """All that a step reads and writes.

    Attributes:
        step: steps done.
        params: weights of both towers and the logarithm of the logit scale.
        stats: running statistics of the batch norms.
        mean_params: exponential running mean of ``params``.
        mean_stats: exponential running mean of ``stats``.
        opt_state: of the optimiser.
    """

    step: Int[Array, ""]
    params: Params
    stats: Params
    mean_params: Params
    mean_stats: Params
    opt_state: Any


class ContrastiveMetrics(NamedTuple):
    """What a step reports.

    Attributes:
        loss: in nats.
        accuracy: percent of the images whose best text of the batch is a right one.
        logit_scale: the inverse temperature.
        grad_norm: before clipping.
    """

    loss: Float[Array, ""]
    accuracy: Float[Array, ""]
    logit_scale: Float[Array, ""]
    grad_norm: Float[Array, ""]


def contrastive_loss(
    images: Float[Array, "batch dim"],
    texts: Float[Array, "batch dim"],
    logit_scale: Float[Array, ""],
    positive: Bool[Array, "batch batch"],
) -> tuple[Float[Array, ""], Float[Array, "batch batch"]]:
    """Symmetric InfoNCE in which a row may have several positives.

    ``L = (H(P, softmax(S)) + H(P, softmax(S^T))) / 2`` with ``S = s I T^T``, and P each row's
    positives in equal parts; with one positive a row this is CLIP's loss.

    Args:
        images: unit image features.
        texts: unit text features.
        logit_scale: inverse temperature s.
        positive: true where image i and text j have the same name; symmetric.

    Returns:
        The loss in nats and the logits.

    Example:
        >>> x = jnp.eye(2)
        >>> loss, _ = contrastive_loss(x, x, jnp.float32(100.0), jnp.eye(2, dtype=bool))
        >>> round(float(loss), 4)
        0.0

    Source: Radford et al., ICML 2021, section 2.3; several positives as in Khosla et al.,
    Supervised Contrastive Learning, NeurIPS 2020, equation 2.
    """
    logits = logit_scale * images @ texts.T
    target = positive / positive.sum(-1, keepdims=True)
    to_text = optax.softmax_cross_entropy(logits, target)
    to_image = optax.softmax_cross_entropy(logits.T, target)
    return (to_text.mean() + to_image.mean()) / 2, logits


def make_schedule(config: ContrastiveConfig) -> optax.Schedule:
    """Linear warm-up to the peak, then a cosine down to zero."""
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, min(config.warmup_steps, config.steps - 1), config.steps
    )


def make_optimizer(config: ContrastiveConfig) -> optax.GradientTransformation:
    """AdamW on clipped gradients; only matrices and kernels decay."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            make_schedule(config),
            b2=0.98,
            weight_decay=config.weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim >= 2, params),
        ),
    )


def init_contrastive(
    model: ClipConfig, config: ContrastiveConfig
) -> tuple[nnx.GraphDef, ContrastiveState]:
    """Make the state before the first step.

    Args:
        model: shapes of both towers.
        config: the recipe.

    Returns:
        The static part of the ``Clip`` and the state.
    """
    clip = Clip(model, rngs=nnx.Rngs(config.seed))
    graphdef = nnx.graphdef(clip)
    params = nnx.to_pure_dict(nnx.state(clip, nnx.Param))
    stats = nnx.to_pure_dict(nnx.state(clip, nnx.BatchStat))
    mean_params, mean_stats = jax.tree.map(jnp.copy, (params, stats))
    opt_state = make_optimizer(config).init(params)
    return graphdef, ContrastiveState(
        jnp.zeros((), jnp.int32), params, stats, mean_params, mean_stats, opt_state
    )


def make_step(
    graphdef: nnx.GraphDef, model: ClipConfig, config: ContrastiveConfig
) -> Callable[[ContrastiveState, PairBatch, PRNGKeyArray], tuple]:
    """Compile one optimiser step.

    Args:
        graphdef: static part of the ``Clip``.
        model: shapes of both towers.
        config: the recipe.

    Returns:
        ``step(state, batch, key) -> (state, metrics)``. The augmentation of step i comes from
        ``fold_in(key, i)``. The memory of the state that goes in is used again.
    """
    optimizer = make_optimizer(config)
    size = model.vision.image_size

    def loss_of(
        params: Params, stats: Params, pixels: Array, batch: PairBatch
    ) -> tuple[Array, tuple]:
        clip = nnx.merge(graphdef, params, stats, copy=True)
        train = {"train": True} if stats else {}  # running statistics, as of a ResNet
        images = l2_normalize(clip.vision(pixels, **train))
        texts = l2_normalize(clip.text(batch.ids))
        scale = jnp.exp(jnp.minimum(clip.logit_scale[...], jnp.log(MAX_LOGIT_SCALE)))
        positive = batch.names[:, None] == batch.names[None, :]
        loss, logits = contrastive_loss(images, texts, scale, positive)
        best = jnp.take_along_axis(positive, logits.argmax(1)[:, None], axis=1)
        new_stats = nnx.to_pure_dict(nnx.state(clip, nnx.BatchStat))
        return loss, (new_stats, 100.0 * best.mean(), scale)

    def step(state: ContrastiveState, batch: PairBatch, key: PRNGKeyArray) -> tuple:
        key = jax.random.fold_in(key, state.step)
        pixels = augment(key, batch.pictures, batch.glyphs, size) * 2.0 - 1.0
        (loss, (stats, accuracy, scale)), grads = jax.value_and_grad(loss_of, has_aux=True)(
            state.params, state.stats, pixels, batch
        )
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        # Early on the mean follows closely, so that it forgets the random weights.
        decay = jnp.minimum(config.ema_decay, (1.0 + state.step) / (10.0 + state.step))
        mean_params, mean_stats = (
            optax.incremental_update(new, mean, 1.0 - decay)
            for new, mean in ((params, state.mean_params), (stats, state.mean_stats))
        )
        metrics = ContrastiveMetrics(loss, accuracy, scale, optax.tree.norm(grads))
        state = ContrastiveState(state.step + 1, params, stats, mean_params, mean_stats, opt_state)
        return state, metrics

    return jax.jit(step, donate_argnums=0)
