"""Text and class mean added: what a Meta-Adapter does before any training."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Grid, Scalars, init_scalars, logits_of_weights
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Params, PRNGKeyArray, State

UNTRAINED_GATE = 0.73
"""``sigmoid(1)``: the gate that a Meta-Adapter starts from."""

GATES = tuple(float(gate) for gate in UNTRAINED_GATE * 2.0 ** (np.arange(-8, 13) / 2))
"""Gates that are tried: the untrained one times 2^(k/2), 0.05 to 47."""


@dataclass(frozen=True)
class TextPrototype:
    """Blend of text and class mean, ``normalise(w_c + gate * m_c)``.

    ``m_c`` is the mean over the text feature and the shots of the class,
    ``(w_c + sum_k F_ck) / (1 + K_c)``. An untrained Meta-Adapter attends almost evenly to exactly
    these vectors, with a gate near 0.73, so this row shows what its training adds. Without the
    text in the mean, ``m_c`` is the mean of the shots alone.

    ``params``: ``gate``, how much of the mean is added; 0 gives zero-shot.

    Attributes:
        text_in_mean: whether the text feature counts as one more shot.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(TextPrototype()).shape
        (6, 3)

    Source: this project; the untrained limit of Cheng et al., "Meta-Adapter: An Online Few-shot
    Learner for Vision-Language Model".
    """

    text_in_mean: bool = True

    name: ClassVar[str] = "text_prototype"
    scalars: ClassVar[Scalars] = {"gate": UNTRAINED_GATE}
    """The untrained gate."""
    init = init_scalars
    zero_shot_at: ClassVar[Params] = {"gate": 0.0}
    logits = logits_of_weights
    grid: ClassVar[Grid] = Grid(refit={"gate": GATES})

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Add the mean of every class to its text feature."""
        del key
        text = task.text.astype(jnp.float32)
        kept = task.support_mask.astype(jnp.float32)
        total = jnp.einsum("wsd,ws->wd", task.support.astype(jnp.float32), kept)
        count = kept.sum(-1, keepdims=True)
        if self.text_in_mean:
            total, count = total + text, count + 1
        weights = l2_normalize(text + params["gate"] * total / jnp.maximum(count, 1))
        return {"weights": weights.astype(task.text.dtype), "logit_scale": task.logit_scale}
