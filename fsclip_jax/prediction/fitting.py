"""A classifier fitted to labelled pictures, and the probabilities it gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Adapter, grids_of, is_meta_learned, needs_of
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.episodes.task import take_tasks
from fsclip_jax.errors import UserError
from fsclip_jax.features.buckets import padded
from fsclip_jax.fitting.draws import Draws
from fsclip_jax.fitting.engine import Engine, fit_key
from fsclip_jax.fitting.methods import read_checkpoint
from fsclip_jax.fitting.selection import Choice, fixed, select_held_out
from fsclip_jax.prediction.calibrate import Temperature, fit_temperature, held_out_logits
from fsclip_jax.typing import Array, Float, Params, State

DEFAULT_METHOD = "linear_probe"
"""What classifies where nothing was meta-trained: near the best on all data sets of the README's
table, at any number of shots, with nothing to tune."""

_BATCH = 256  # always, so that an image's probabilities do not depend on its company


@dataclass(frozen=True, eq=False)
class Fitted:
    """A classifier of image features.

    Attributes:
        adapter: the method.
        state: what its ``fit`` returned, on the host.
        class_names: name of every class.
        temperature: what the logits are divided by.
        record: how it was made, JSON values.
    """

    adapter: Adapter
    state: State
    class_names: tuple[str, ...]
    temperature: Temperature
    record: dict[str, Any]


class Source(NamedTuple):
    """The features at hand, as far as a checkpoint must fit them.

    Attributes:
        dim: width of a feature.
        backbone: ``id`` and ``sha256`` of what made them; empty if unknown.
    """

    dim: int
    backbone: Mapping[str, Any]


def choose_method(
    source: Source, method: str | None, checkpoint: Path | None
) -> tuple[Adapter, Params, dict[str, Any]]:
    """Find the method and its parameters.

    Args:
        source: the features at hand; a checkpoint must be of their backbone.
        method: name of a method; the checkpoint's, or ``DEFAULT_METHOD``, if None.
        checkpoint: workdir of a training run, for a meta-learned method.

    Returns:
        The method, its parameters, and where they came from.

    Raises:
        UserError: there is no such method or checkpoint, the two do not belong together, or the
            method needs what labelled pictures alone do not give.
    """
    if checkpoint is not None:
        found = read_checkpoint(checkpoint, source.dim, source.backbone)
        if method not in (None, found.adapter.name):
            raise UserError(
                f"the checkpoint {checkpoint} is of {found.adapter.name}, not of {method}; "
                "leave --method out, or give the checkpoint of that method"
            )
        return found.adapter, found.params, {"checkpoint": str(checkpoint), **_plain(found.meta)}
    adapter = get_adapter(method or DEFAULT_METHOD)
    if is_meta_learned(adapter):
        raise UserError(
            f"{adapter.name} is meta-trained once before it is used: give --checkpoint with the "
            f"workdir of `fsclip train --method {adapter.name}`, or a --method that is not"
        )
    missing = needs_of(adapter)
    if missing:
        usable = [name for name in ADAPTERS if not needs_of(get_adapter(name))]
        raise UserError(
            f"{adapter.name} needs {' and '.join(sorted(missing))}, which a folder of pictures "
            f"does not give; usable here: {', '.join(usable)}"
        )
    return adapter, adapter.init(jax.random.key(0), source.dim), {}


def _plain(meta: Any) -> dict[str, Any]:
    kept = ("method", "sha256", "backbone", "data", "steps")
    return {name: meta[name] for name in kept if name in meta}


def fit_support(
    draws: Draws,
    class_names: Sequence[str],
    adapter: Adapter,
    params: Params,
    *,
    calibrate: bool = True,
    origin: Mapping[str, Any] | None = None,
) -> Fitted:
    """Fit a method to a support, with settings and temperature from shots held out of it.

    Args:
        draws: the support, one draw.
        class_names: name of every class.
        adapter: the method.
        params: its parameters. Searched scalars are chosen on shots that are held out.
        calibrate: also fit a temperature to held-out shots; otherwise it is 1.
        origin: where the parameters came from, for the record.

    Returns:
        The classifier.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_task
        >>> task, query = example_task(way=3, shot=8)
        >>> one = jax.tree.map(lambda leaf: leaf[None], task)
        >>> domains = jnp.full((1, 3, 8), -1)
        >>> fitted = fit_support(Draws(one, one.support, domains), "abc", get_adapter("gda"),
        ...                      get_adapter("gda").init(jax.random.key(0), 8))
        >>> probabilities(fitted, query.features).sum(-1).round(3).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    """
    choice = _choose(adapter, params, draws)
    chosen = jax.tree.map(lambda leaf: leaf[0], choice.params) if choice.per_draw else choice.params
    state = jax.jit(adapter.fit)(chosen, take_tasks(draws.task, 0), fit_key(0))
    temperature = Temperature(1.0, 0)
    if calibrate:
        temperature = fit_temperature(*held_out_logits(adapter, chosen, draws))
    return Fitted(
        adapter,
        jax.device_get(state),
        tuple(class_names),
        temperature,
        {
            **(origin or {}),
            "method": adapter.name,
            "selection": choice.record,
            "temperature": temperature.value,
        },
    )


def _choose(adapter: Adapter, params: Params, draws: Draws) -> Choice:
    if is_meta_learned(adapter) or not grids_of(adapter):
        return fixed(adapter, params, "nothing to choose")
    return select_held_out(Engine(), adapter, params, draws)


def probabilities(
    fitted: Fitted, features: Float[Array | np.ndarray, "n dim"]
) -> Float[np.ndarray, "n way"]:
    """Return the calibrated probability of every class for every image.

    ``softmax(logits / T)``

    Args:
        fitted: the classifier.
        features: unit features of the images.

    Returns:
        Probabilities, float32; the rows sum to 1.
    """
    features = np.asarray(features, np.float32)
    if not len(features):
        return np.zeros((0, len(fitted.class_names)), np.float32)
    parts = [
        np.asarray(
            _probabilities(
                fitted.adapter,
                fitted.state,
                jnp.float32(fitted.temperature.value),
                jnp.asarray(padded(features[low : low + _BATCH], _BATCH)),
            )
        )
        for low in range(0, len(features), _BATCH)
    ]
    return np.concatenate(parts)[: len(features)]


@partial(jax.jit, static_argnums=0)
def _probabilities(
    adapter: Adapter, state: State, temperature: Array, features: Float[Array, "n dim"]
) -> Float[Array, "n way"]:
    logits = adapter.logits(state, features).astype(jnp.float32)
    return jax.nn.softmax(logits / temperature, axis=-1)
