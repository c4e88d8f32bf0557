"""SS-Text+: text and shots blended by how many shots each class has; no training, no validation."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp

from fsclip_jax.adapters.base import Scaled, init_scalars, logits_of_weights
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Params, PRNGKeyArray, State


@dataclass(frozen=True)
class SsTextPlus:
    """Closed-form linear probe for uneven shots, ``s f . normalise(w_c)``.

    ``w_c = t_c + s n_c / N sum_k F_ck`` minimises the part of the cross-entropy that is linear in
    the weights, ``-1/N sum_i s f_i . w_{y_i}``, plus ``lambda_c / 2 |w_c - t_c|^2`` with
    ``lambda_c = 1 / n_c``. ``n_c`` are the shots of the class and ``N`` those of all: the more
    shots a class has, the less its text counts, and one without shots keeps its text.

    Even shots of ``C`` classes give ``t_c + s / C sum_k F_ck``: where classes are few, the text
    hardly counts.

    Attributes:
        repel: whether ``w_c`` with shots is moved by
            ``-normalise(2 w_c - mean_j w_j)`` at the end, as in the published code. With unit
            vectors that turns weights around where classes are many: on the 1,000 of ImageNet
            nothing is right.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(SsTextPlus()).shape
        (6, 3)

    Source: Silva-Rodriguez et al., "Few-Shot, Now for Real: Medical VLMs Adaptation without
    Balanced Sets or Validation"; ``lambda_c`` and ``repel`` of its published code.
    """

    repel: bool = False

    name: ClassVar[str] = "ss_text_plus"
    classes_meet: ClassVar[bool] = True
    scaled: ClassVar[Scaled] = "in the fit"
    init = init_scalars
    logits = logits_of_weights

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Add the shots of every class to its text."""
        del params, key
        kept = task.support_mask.astype(jnp.float32)
        count = kept.sum(-1, keepdims=True)
        total = jnp.einsum("wsd,ws->wd", task.support.astype(jnp.float32), kept)
        share = count / jnp.maximum(count.sum(), 1)
        weights = task.text.astype(jnp.float32) + task.logit_scale * share * total
        if self.repel:
            away = l2_normalize(2 * weights - weights.mean(0, keepdims=True))
            weights = weights - jnp.where(count > 0, away, 0)
        weights = l2_normalize(weights).astype(task.text.dtype)
        return {"weights": weights, "logit_scale": task.logit_scale}
