"""A classifier fitted to labelled pictures, and the probabilities it gives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.draws import Draws
from fsclip_jax.fitting.engine import process_engine
from fsclip_jax.fitting.fitted import Fitted, choose_setting, fit, logits_of
from fsclip_jax.fitting.methods import Method, choose_method, not_given_by
from fsclip_jax.prediction.calibrate import Temperature, fit_temperature, held_out_logits
from fsclip_jax.typing import Array, Float

DEFAULT_METHOD = "linear_probe"
"""What classifies where nothing was meta-trained: near the best on all data sets of the README's
table, at any number of shots, with nothing to tune."""

_BATCH = 256  # always, so that an image's probabilities do not depend on its company


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier of image features; its logits are divided by ``temperature``."""

    fitted: Fitted
    class_names: tuple[str, ...]
    temperature: Temperature
    record: dict[str, Any]

    @property
    def method(self) -> Method:
        """What was fitted."""
        return self.fitted.method


def method_for_pictures(name: str | None, features: FeatureSpec, checkpoint: Path | None) -> Method:
    """Find the method that is to learn from a folder of pictures.

    Raises:
        UserError: see :func:`~fsclip_jax.fitting.methods.choose_method`.
    """
    missing = not_given_by("a folder of pictures does not give")
    return choose_method(name, features, checkpoint, default=DEFAULT_METHOD, missing=missing)


def fit_support(
    draws: Draws, class_names: Sequence[str], method: Method, *, calibrate: bool = True
) -> Classifier:
    """Fit a method to a support, with settings and temperature from shots held out of it.

    Args:
        calibrate: also fit a temperature to held-out shots; otherwise it is 1.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_task
        >>> from fsclip_jax.fitting.draws import draws_of
        >>> task, query = example_task(way=3, shot=8)
        >>> draws = draws_of(jax.tree.map(lambda leaf: leaf[None], task))
        >>> classifier = fit_support(draws, "abc", method_for_pictures("gda", FeatureSpec(8), None))
        >>> probabilities(classifier, query.features).sum(-1).round(3).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    engine = process_engine()
    choice = choose_setting(engine, method, draws, "shots")
    fitted = fit(engine, method, choice, draws.task)
    fitted = replace(fitted, state=jax.device_get(fitted.state))
    temperature = Temperature(1.0, 0)
    if calibrate:
        params = choice.params
        if choice.per_draw:
            params = jax.tree.map(lambda leaf: leaf[0], params)
        temperature = fit_temperature(*held_out_logits(method.adapter, params, draws))
    record = {
        **_trained(method),
        "method": method.name,
        "selection": choice.record,
        "temperature": temperature.value,
    }
    return Classifier(fitted, tuple(class_names), temperature, record)


def _trained(method: Method) -> dict[str, Any]:
    """Where learned parameters came from."""
    if method.trained is None:
        return {}
    meta = method.trained.meta
    kept = {name: meta[name] for name in ("sha256", "backbone", "data", "steps") if name in meta}
    return {"checkpoint": str(method.trained.path), **kept}


def probabilities(
    classifier: Classifier, features: Float[Array | np.ndarray, "n dim"]
) -> Float[np.ndarray, "n way"]:
    """Return the calibrated probability of every class for every image, ``softmax(logits / T)``."""
    (logits,) = logits_of(classifier.fitted, np.asarray(features, np.float32), _BATCH)
    return np.asarray(jax.nn.softmax(jnp.asarray(logits) / classifier.temperature.value, axis=-1))
