"""A fitted classifier with its image tower as one ONNX file, which onnxruntime runs without JAX."""

import dataclasses
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp

from fsclip_jax.clip.load import Backbone
from fsclip_jax.errors import UserError, first_line, require_extra
from fsclip_jax.export.stablehlo import pictures_to_answers
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.prediction.classifier import Classifier
from fsclip_jax.typing import Array, Float

OPSET = 21
"""Version of the operators; onnxruntime has it since 1.18."""
ONE_FILE = 2**31 - 1
"""Bytes that one file of ONNX can have."""


def export_onnx(backbone: Backbone, classifier: Classifier) -> bytes:
    """Export the image tower and a fitted classifier as one ONNX graph.

    ``pixels -> probabilities, labels, evidence``: uint8 ``[batch size size 3]``, as
    ``Preprocess.crop`` gives them, to float32 ``[batch way]``, int32 ``[batch]`` and float32
    ``[batch 3]``, any batch; see `stablehlo.export_classifier`. The metadata of the file has
    ``class_names`` and ``preprocess`` as JSON, ``method`` and ``backbone``.

    Raises:
        UserError: the extra is not installed, or the method has a step that it does not carry.
    """
    require_onnx()
    from jax2onnx import to_onnx

    classify = pictures_to_answers(backbone, classifier, _as_float16)

    def answer(pixels: Array) -> tuple[Array, Array, Array]:
        probabilities, evidence = classify(pixels)
        return probabilities, jnp.argmax(probabilities, axis=-1).astype(jnp.int32), evidence

    size = backbone.image_size
    (batch,) = jax.export.symbolic_shape("batch")
    pixels = jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8)
    try:
        with _quiet():
            model: Any = to_onnx(
                answer,
                [pixels],
                model_name="classifier",
                opset=OPSET,
                input_names=["pixels"],
                output_names=["probabilities", "labels", "evidence"],
            )
    except (NotImplementedError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{classifier.method.name} on {backbone.id} has a step that ONNX is not made of here "
            f"({first_line(error)}); take --format stablehlo or another --method"
        ) from error
    for name, value in described(backbone, classifier).items():
        model.metadata_props.add(key=name, value=value)
    if (size := model.ByteSize()) > ONE_FILE:
        raise UserError(f"the graph has {size} bytes, and one file of ONNX at most {ONE_FILE}")
    data: bytes = model.SerializeToString()
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """Hush what the library says of Flax and of shapes, which no user can change."""
    log = logging.getLogger("onnx_ir")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def require_onnx() -> None:
    """Refuse where the extra is not installed.

    Raises:
        UserError: saying how to install it.
    """
    require_extra(["onnx", "jax2onnx"], "onnx", "--format onnx")


def described(backbone: Backbone, classifier: Classifier) -> dict[str, str]:
    """Say what a program needs to know beside the graph."""
    preprocess = dataclasses.asdict(backbone.preprocess)
    return {
        "class_names": json.dumps(list(classifier.class_names)),
        "preprocess": json.dumps({"size": backbone.image_size, **preprocess}),
        "method": classifier.method.name,
        "backbone": backbone.id,
    }


def _as_float16(features: Float[Array, "n dim"]) -> Float[Array, "n dim"]:
    """Round unit features as a bank does; ONNX keeps a cast that XLA may drop."""
    return l2_normalize(features.astype(jnp.float16).astype(jnp.float32))
