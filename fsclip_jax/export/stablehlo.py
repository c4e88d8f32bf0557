"""Adapters and classifiers as StableHLO programs that no code of this package is needed to run."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from fsclip_jax.adapters.base import Adapter, fits_any_shape, needs_of
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.clip.load import Backbone
from fsclip_jax.clip.model import encode_image
from fsclip_jax.episodes.task import Task
from fsclip_jax.errors import UserError
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.prediction.calibrate import calibrated
from fsclip_jax.prediction.classifier import Classifier
from fsclip_jax.typing import Array, Float, Params, UInt8

PLATFORMS = ("cpu", "cuda", "tpu")
"""What an artifact runs on. The choice is made when it is called."""

_KEY = 0  # of `fit`; what is exported draws nothing


def refuse_fixed_shapes(adapter: Adapter) -> None:
    """Raise a ``UserError`` for a method that is no one program for any task."""
    if fits_any_shape(adapter):
        return
    others = [name for name in ADAPTERS if fits_any_shape(get_adapter(name))]
    missing = " and ".join(sorted(needs_of(adapter)))
    why = f"needs {missing}" if missing else "fits by steps that depend on how many shots there are"
    raise UserError(
        f"{adapter.name} {why}, so it is no one program for every task; give --support DIR to "
        f"export it fitted, where it applies, or one of {', '.join(others)}"
    )


def export_adapter(adapter: Adapter, params: Params, dim: int) -> bytes:
    """Export a method: the fit to a task, and the logits of queries, in one program.

    ``(text, support, mask, query, logit_scale) -> logits`` with the shapes ``[way dim]``,
    ``[way shot dim]``, ``[way shot]`` (bool), ``[query dim]`` and ``[]``, any way, shot and query.
    Features are unit vectors, float32. A slot without a shot is false in the mask.

    The parameters become constants of the program, which ``jax.export.deserialize`` reads.

    Raises:
        UserError: the method is no one program for any number of classes and shots.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_task, get_adapter
        >>> task, query = example_task(way=3)
        >>> program = export.deserialize(bytearray(export_adapter(get_adapter("ridge"),
        ...     get_adapter("ridge").init(jax.random.key(0), 8), 8)))
        >>> program.call(task.text, task.support, task.support_mask, query.features,
        ...              task.logit_scale).shape
        (6, 3)
    """
    refuse_fixed_shapes(adapter)

    def classify(text: Array, support: Array, mask: Array, query: Array, scale: Array) -> Array:
        state = adapter.fit(params, Task(support, mask, text, scale), jax.random.key(_KEY))
        return adapter.logits(state, query).astype(jnp.float32)

    # One call: sizes of separate calls have nothing to do with each other.
    way, shot, query = export.symbolic_shape(
        "way, shot, query", constraints=["way >= 2", "shot >= 1", "query >= 1"]
    )
    return _serialized(
        classify,
        _shape(way, dim),
        _shape(way, shot, dim),
        _shape(way, shot, dtype=jnp.bool_),
        _shape(query, dim),
        _shape(),
    )


def export_classifier(backbone: Backbone, classifier: Classifier) -> bytes:
    """Export the image tower and a fitted classifier as one program.

    ``pixels -> probabilities, evidence``: uint8 ``[batch size size 3]``, as ``Preprocess.crop``
    gives them, to float32 ``[batch way]`` and ``[batch 3]``, any batch. The evidence tells pictures
    of none of the classes, see ``prediction.unknown``: energy of the logits, largest cosine to a
    labelled picture, logarithm of the largest share. What was fitted, such as refined class
    embeddings, the temperature, the features of the labelled pictures and the weights of the image
    tower are constants of the program.
    """
    size = backbone.image_size
    (batch,) = export.symbolic_shape("batch", constraints=["batch >= 1"])
    pixels = _shape(batch, size, size, 3, dtype=jnp.uint8)
    return _serialized(pictures_to_answers(backbone, classifier), pixels)


def pictures_to_answers(
    backbone: Backbone,
    classifier: Classifier,
    rounded: Callable[[Float[Array, "n dim"]], Float[Array, "n dim"]] | None = None,
) -> Callable[[UInt8[Array, "batch size size 3"]], tuple[Array, Array]]:
    """Return what :func:`export_classifier` exports; ``rounded`` stands in for `as_stored`."""
    round_features = rounded or as_stored
    shots = classifier.labelled.shots
    support = shots.features.reshape(shots.mask.size, -1)[shots.mask.reshape(-1)].T
    state: Mapping[str, Any] = jax.tree.map(
        lambda leaf: jnp.asarray(leaf[0]), classifier.fitted.state
    )

    def classify(
        pixels: UInt8[Array, "batch size size 3"],
    ) -> tuple[Float[Array, "batch way"], Float[Array, "batch 3"]]:
        normal = backbone.preprocess.normalize(pixels)
        encoded = l2_normalize(encode_image(backbone.graphdef, backbone.state, normal))
        features = round_features(encoded)
        logits = classifier.method.adapter.logits(state, features).astype(jnp.float32)
        energy = jax.nn.logsumexp(logits, axis=-1)
        cosine = jnp.minimum((features @ support).max(-1), jnp.float32(1))
        evidence = jnp.stack([energy, cosine, logits.max(-1) - energy], axis=-1)
        return calibrated(logits, classifier.temperature), evidence

    return classify


def as_stored(features: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
    """Round unit features as a bank does, which stores float16, and make them unit again.

    XLA may drop a cast to float16 and back, but not what is written here.

    Example:
        >>> [round(x, 4) for x in as_stored(jnp.array([[0.6, 0.8]]))[0].tolist()]
        [0.6002, 0.7999]
    """
    normal = jax.lax.reduce_precision(features, exponent_bits=5, mantissa_bits=10)
    small = jnp.round(features * 2.0**24) * 2.0**-24  # float16 has even steps below 2^-14
    rounded = jnp.where(jnp.abs(features) < 2.0**-14, small, normal)
    norms = jnp.linalg.norm(rounded, axis=-1, keepdims=True)
    return rounded / jnp.maximum(norms, 1e-12)


def _shape(*sizes: Any, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(sizes, dtype)


def _serialized(function: Callable[..., Any], *shapes: jax.ShapeDtypeStruct) -> bytes:
    return bytes(export.export(jax.jit(function), platforms=PLATFORMS)(*shapes).serialize())
