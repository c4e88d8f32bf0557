"""Fold frozen batch norms into the convolutions before them, and take them apart again."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fsclip_jax.clip.config import ClipConfig, ResNetConfig
from fsclip_jax.clip.model import abstract_clip
from fsclip_jax.clip.resnet import NORM_EPS
from fsclip_jax.clip.weights import leaf_paths
from fsclip_jax.typing import Params


def fold_norms(
    config: ClipConfig, graphdef: nnx.GraphDef, state: Params
) -> tuple[ClipConfig, nnx.GraphDef, Params]:
    """Fold the batch norms of a ResNet into its convolutions; any other CLIP stays as it is.

    At inference a batch norm is a scale and a shift a channel, so with ``g = s / sqrt(v + eps)``
    a convolution by ``g W`` with the bias ``b - g m`` gives the same.

    Source: Jacob et al., Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference, CVPR 2018, section 3.2.
    """
    if not isinstance(config.vision, ResNetConfig) or config.vision.folded:
        return config, graphdef, state
    folded = dataclasses.replace(config, vision=dataclasses.replace(config.vision, folded=True))
    graphdef, abstract = abstract_clip(folded)
    leaves = dict(leaf_paths(state))
    for conv, norm in _pairs(leaves):
        scale, bias, mean, var = (
            np.asarray(leaves.pop(f"{norm}.{name}"), np.float64)
            for name in ("scale", "bias", "mean", "var")
        )
        gain = scale / np.sqrt(var + NORM_EPS)
        kernel = np.asarray(leaves[f"{conv}.kernel"], np.float64)
        leaves[f"{conv}.kernel"] = jnp.asarray(kernel * gain, jnp.float32)
        leaves[f"{conv}.bias"] = jnp.asarray(bias - gain * mean, jnp.float32)
    return folded, graphdef, _arrange(abstract, leaves)


def unfold_norms(config: ClipConfig, state: Params) -> tuple[ClipConfig, Params]:
    """Set norms that do nothing beside the convolutions, for files whose layout has norms."""
    if not isinstance(config.vision, ResNetConfig) or not config.vision.folded:
        return config, state
    plain = dataclasses.replace(config, vision=dataclasses.replace(config.vision, folded=False))
    _, abstract = abstract_clip(plain)
    leaves = dict(leaf_paths(state))
    for conv, norm in _pairs(leaf_paths(abstract)):
        bias = leaves.pop(f"{conv}.bias")
        one = jnp.ones_like(bias)
        # A variance of 1 - eps makes the divisor sqrt(1), so the norm only adds its bias.
        leaves |= {
            f"{norm}.scale": one,
            f"{norm}.bias": bias,
            f"{norm}.mean": 0 * one,
            f"{norm}.var": one - NORM_EPS,
        }
    return plain, _arrange(abstract, leaves)


def _pairs(leaves: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name every convolution with its norm: ``x.conv1`` and ``x.bn1``."""
    for path in list(leaves):
        stem, _, last = path.rpartition(".")
        if last == "mean" and stem.startswith("vision."):
            yield stem.replace("downsample_bn", "downsample_conv").replace(".bn", ".conv"), stem


def _arrange(abstract: Params, leaves: Mapping[str, Any]) -> Params:
    return jax.tree.unflatten(
        jax.tree.structure(abstract), [leaves[path] for path in leaf_paths(abstract)]
    )
