"""TIMO: images choose among the prompts, and the prompts join the images of a Gaussian."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Grid, Scalars, Scaled, init_scalars
from fsclip_jax.adapters.gaussian import fit_gaussian, logits_of_gaussian
from fsclip_jax.adapters.gda import ALPHAS, samples
from fsclip_jax.episodes.task import Prompts, Task
from fsclip_jax.numerics import l2_normalize, masked_mean
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, State

PROMPT_COUNT = 1.0
"""Images that a prompt counts for."""


@dataclass(frozen=True)
class Timo:
    """Text and images guide each other, ``logit_scale f T^T + alpha (f . v_c + b_c)``.

    With the prompts ``P_cj`` of a class, its normalised mean ``m_c`` of the shots and the scores
    ``s_cj = P_cj . m_c``::

        T_c = normalise(sum_j softmax_j(gamma s_cj / |s_c|) P_cj)

    and ``v``, ``b`` the log-densities of :func:`fsclip_jax.adapters.gaussian.fit_gaussian` for
    the views of the shots and, as further images of their class, the vectors ``s_cj P_cj``. A
    class without a shot has no scores: its prompts count alike in ``T`` and nowhere else.

    Published is ``alpha' f T^T + f . v_c + b_c``, which for ``alpha' = logit_scale / alpha``
    predicts the same; ``alpha`` here is what it is in GDA.

    ``params``: ``alpha``, and ``gamma``, how much the images choose (both 0 give zero-shot).
    ``gamma`` is 50 in the paper, but for ImageNet (1) and Flowers (100): these three are the
    grid. The number of prompts (TIMO-S) is not searched: all are used.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(Timo()).shape
        (6, 3)

    Source: Li et al., "Text and Image Are Mutually Beneficial: Enhancing Training-Free Few-Shot
    Classification with CLIP" (arXiv 2412.11375), settings of its published code.
    """

    name: ClassVar[str] = "timo"
    logits = logits_of_gaussian
    scalars: ClassVar[Scalars] = {"alpha": 0.05, "gamma": 50.0}
    """The published gamma and the weight of GDA."""
    init = init_scalars
    zero_shot_at: ClassVar[Params] = {"alpha": 0.0, "gamma": 0.0}
    classes_meet: ClassVar[bool] = True
    scaled: ClassVar[Scaled] = "in the fit"
    needs: ClassVar[frozenset[str]] = frozenset({"prompts"})
    grid: ClassVar[Grid] = Grid(refit={"gamma": (1.0, 50.0, 100.0)}, late={"alpha": ALPHAS})

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Weigh the prompts, and fit the Gaussians to shots and prompts."""
        del key
        assert task.prompts is not None, "timo needs prompts"
        prompts = Prompts(task.prompts.vectors.astype(jnp.float32), task.prompts.mask)
        scores = _scores(task, prompts)
        rows, counts = samples(task)
        usable = prompts.mask & task.support_mask.any(-1, keepdims=True)
        densities = fit_gaussian(
            jnp.concatenate([rows, scores[..., None] * prompts.vectors], axis=1),
            jnp.concatenate([counts, PROMPT_COUNT * usable], axis=1),
        )
        return {
            "text": _guided_text(prompts, scores, params["gamma"]),
            "weights": densities.weights,
            "bias": densities.bias,
            "logit_scale": task.logit_scale,
            "alpha": params["alpha"],
        }


def _scores(task: Task, prompts: Prompts) -> Float[Array, "way prompt"]:
    """Cosine of each prompt and the mean shot of its class; 0 where either is missing."""
    mean = masked_mean(task.support.astype(jnp.float32), task.support_mask)
    scores = jnp.einsum("wpd,wd->wp", prompts.vectors, l2_normalize(mean))
    return jnp.where(prompts.mask, scores, 0.0)


def _guided_text(
    prompts: Prompts, scores: Float[Array, "way prompt"], gamma: Float[Array, ""]
) -> Float[Array, "way dim"]:
    """Mean of the prompts, weighted by a softmax of their scores."""
    sharp = jnp.where(prompts.mask, gamma * l2_normalize(scores), -1e30)
    chosen = jnp.where(prompts.mask, jax.nn.softmax(sharp, axis=-1), 0.0)
    return l2_normalize(jnp.einsum("wp,wpd->wd", chosen, prompts.vectors))
