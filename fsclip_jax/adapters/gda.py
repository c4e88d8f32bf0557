"""Gaussian discriminant analysis of the shots, added to the zero-shot logits."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Grid, Scalars, Scaled, init_scalars
from fsclip_jax.adapters.gaussian import fit_gaussian, logits_of_gaussian
from fsclip_jax.episodes.task import Task
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, State

ALPHAS = tuple(float(alpha) for alpha in 10.0 ** (np.arange(-16, 9) / 4))
"""The published range, 1e-4 to 1e2, at four steps a decade."""


@dataclass(frozen=True)
class Gda:
    """Zero-shot and Gaussian classes, ``logit_scale f W^T + alpha (f . v_c + b_c)``.

    ``v`` and ``b`` are the log-densities of :func:`fsclip_jax.adapters.gaussian.fit_gaussian`.
    Where the bank has several views of an image, the samples are the views, which together count
    as one image. Log-densities are logits already, so the logit scale does not multiply them.
    Without text they stand alone, ``alpha (f . v_c + b_c)`` with ``alpha = 0.1``: no prediction
    depends on it, and of 0.02 to 1 it gives Caltech the best probabilities at 1 to 16 shots.

    Differs from the published form in the unit of ``alpha``: here it is the published one times
    ``dim / (N - 1)``, for there the same ``alpha`` gives more images less of a say. Besides,
    there every view counts as an image; and where nothing scatters within the classes (one shot,
    one view) the published covariance is zero and here isotropic.

    ``params``: ``alpha``, the weight of the densities (0 gives zero-shot). The default is a
    compromise between Caltech val, emoji val and held-out train images of ImageNet, at 1 to 16
    shots: the better the text, the less should be added.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(Gda()).shape
        (6, 3)

    Source: Wang et al., "A Hard-to-Beat Baseline for Training-Free CLIP-Based Adaptation",
    section 3.
    """

    name: ClassVar[str] = "gda"
    logits = logits_of_gaussian
    scalars: ClassVar[Scalars] = {"alpha": 0.05}
    """The default weight of the densities."""
    without_text: ClassVar[Params] = {"alpha": 0.1}
    init = init_scalars
    zero_shot_at: ClassVar[Params] = {"alpha": 0.0}
    classes_meet: ClassVar[bool] = True
    scaled: ClassVar[Scaled] = "text"
    grid: ClassVar[Grid] = Grid(late={"alpha": ALPHAS})

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Fit the Gaussians."""
        del key
        densities = fit_gaussian(*samples(task))
        return {
            "text": task.text.astype(jnp.float32),
            "weights": densities.weights,
            "bias": densities.bias,
            "logit_scale": task.logit_scale,
            "alpha": params["alpha"],
        }


def samples(task: Task) -> tuple[Float[Array, "way row dim"], Float[Array, "way row"]]:
    """Return every view of every shot, and how much of an image each counts for.

    A task without views has one of each shot. The counts of the views of an image sum to 1, those
    of an image that is not present to 0.
    """
    way, shot, dim = task.support.shape
    views = task.support[:, :, None] if task.views is None else task.views
    number = views.shape[2]
    counts = jnp.repeat(task.support_mask.astype(jnp.float32) / number, number, axis=1)
    return views.reshape(way, shot * number, dim).astype(jnp.float32), counts
