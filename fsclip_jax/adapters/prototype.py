"""Nearest class mean: the support, and nothing of the text."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from fsclip_jax.adapters.base import init_scalars, logits_of_weights
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import l2_normalize, masked_mean
from fsclip_jax.typing import Params, PRNGKeyArray, State


@dataclass(frozen=True)
class Prototype:
    """Cosine to the class mean, ``p_c = normalise(mean_k F_ck)``.

    A class with no shot has no mean; its text feature stands in, so that every class of the task
    can still be predicted. Without text that is ``p_c = 0``, a cosine of 0.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(Prototype()).shape
        (6, 3)

    Source: Snell et al., "Prototypical Networks for Few-shot Learning", equation 1, with the
    cosine in place of the Euclidean distance.
    """

    name: ClassVar[str] = "prototype"
    without_text: ClassVar[Params] = {}
    init = init_scalars
    logits = logits_of_weights

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Average the shots of every class."""
        del params, key
        mean = masked_mean(task.support.astype(jnp.float32), task.support_mask)
        prototype = l2_normalize(mean).astype(task.text.dtype)
        present = task.support_mask.any(-1, keepdims=True)
        return {
            "weights": jnp.where(present, prototype, task.text),
            "logit_scale": task.logit_scale,
        }
