"""The family of CLIPs with a modified ResNet: how files say it, and norms folded away."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.clip.config import Activation, ClipConfig, ResNetConfig, TextConfig
from fsclip_jax.clip.config_fields import require_sizes
from fsclip_jax.clip.family import Family, FileLayout, Leaves
from fsclip_jax.clip.layout_open_clip import open_clip_config, open_clip_values
from fsclip_jax.clip.resnet import NORM_EPS, ModifiedResNet
from fsclip_jax.clip.text import CLIP_TEXT
from fsclip_jax.clip.weights import Entry
from fsclip_jax.clip.weights_maps import linear_entries, norm_entries, open_clip_text

ClipResNetConfig: TypeAlias = ClipConfig[ResNetConfig, TextConfig]
"""Shapes of both towers."""


def _has_stages(values: Mapping[str, Any]) -> bool:
    vision = values.get("vision_cfg")
    return isinstance(vision, Mapping) and isinstance(vision.get("layers"), list | tuple)


def _vision(
    values: Mapping[str, Any], image_size: int, embed_dim: int, activation: Activation
) -> ResNetConfig:
    del activation  # it is the text tower's; convolutions are followed by a ReLU
    for depth in values["layers"]:
        require_sizes({"layers": depth}, ["layers"], "vision_cfg.")
    width = values.get("width", 768)
    heads = width * 32 // values.get("head_width", 64)
    return ResNetConfig(tuple(values["layers"]), width, image_size, embed_dim, heads)


def _values(config: ClipResNetConfig) -> dict[str, Any]:
    vision = config.vision
    tower = {
        "layers": list(vision.layers),
        "patch_size": None,
        "head_width": vision.feature_width // vision.heads,
    }
    return open_clip_values(config, tower)


def _entries(config: ClipResNetConfig) -> tuple[Entry, ...]:
    entries = open_clip_text(config)
    for i in (1, 2, 3):
        entries += _convolution("vision", f"conv{i}", f"bn{i}", "visual", f"conv{i}", f"bn{i}")
    for stage, depth in enumerate(config.vision.layers):
        for block in range(depth):
            path, key = f"vision.stages.{stage}.{block}", f"visual.layer{stage + 1}.{block}"
            for i in (1, 2, 3):
                entries += _convolution(path, f"conv{i}", f"bn{i}", key, f"conv{i}", f"bn{i}")
            if block == 0:  # every stage widens its input in its first block
                names = ("downsample.0", "downsample.1")
                entries += _convolution(path, "downsample_conv", "downsample_bn", key, *names)
    path, key = "vision.attnpool", "visual.attnpool"
    entries.append(Entry(f"{path}.position_embedding", f"{key}.positional_embedding"))
    for name in ("q_proj", "k_proj", "v_proj"):
        entries += linear_entries(f"{path}.{name}", f"{key}.{name}")
    return (*entries, *linear_entries(f"{path}.out_proj", f"{key}.c_proj"))


def _convolution(
    path: str, conv: str, norm: str, key: str, their_conv: str, their_norm: str
) -> list[Entry]:
    return [
        Entry(f"{path}.{conv}.kernel", f"{key}.{their_conv}.weight", "conv"),
        *norm_entries(f"{path}.{norm}", f"{key}.{their_norm}"),
        Entry(f"{path}.{norm}.mean", f"{key}.{their_norm}.running_mean"),
        Entry(f"{path}.{norm}.var", f"{key}.{their_norm}.running_var"),
    ]


def _folded(config: ClipResNetConfig, folded: bool) -> ClipResNetConfig:
    return dataclasses.replace(config, vision=dataclasses.replace(config.vision, folded=folded))


def _fold(config: ClipResNetConfig, leaves: Leaves) -> tuple[ClipResNetConfig, Leaves]:
    """Fold batch norms into the convolutions before them.

    At inference a batch norm is a scale and a shift a channel, so with ``g = s / sqrt(v + eps)``
    a convolution by ``g W`` with the bias ``b - g m`` gives the same (Jacob et al., Quantization
    and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018,
    section 3.2).
    """
    leaves = dict(leaves)
    for conv, norm in _pairs(leaves, "bn", "mean"):
        scale, bias, mean, var = (
            np.asarray(leaves.pop(f"{norm}.{name}"), np.float64)
            for name in ("scale", "bias", "mean", "var")
        )
        gain = scale / np.sqrt(var + NORM_EPS)
        kernel = np.asarray(leaves[f"{conv}.kernel"], np.float64)
        leaves[f"{conv}.kernel"] = jax.device_put((kernel * gain).astype(np.float32))
        leaves[f"{conv}.bias"] = jax.device_put((bias - gain * mean).astype(np.float32))
    return _folded(config, True), leaves


def _unfold(config: ClipResNetConfig, leaves: Leaves) -> tuple[ClipResNetConfig, Leaves]:
    """Set norms that do nothing beside the convolutions, as files have norms."""
    leaves = dict(leaves)
    for conv, norm in _pairs(leaves, "conv", "bias"):
        bias = leaves.pop(f"{conv}.bias")
        one = jnp.ones_like(bias)
        # A variance of 1 - eps makes the divisor sqrt(1), so the norm only adds its bias.
        leaves |= {
            f"{norm}.scale": one,
            f"{norm}.bias": bias,
            f"{norm}.mean": 0 * one,
            f"{norm}.var": one - NORM_EPS,
        }
    return _folded(config, False), leaves


def _pairs(leaves: Leaves, kind: str, leaf: str) -> Iterator[tuple[str, str]]:
    """Name every convolution with its norm, ``x.conv1`` and ``x.bn1``, where one has a leaf."""
    for path in list(leaves):
        stem, _, last = path.rpartition(".")
        block, _, name = stem.rpartition(".")
        if last == leaf and name.removeprefix("downsample_").rstrip("123") == kind:
            yield f"{block}.{name.replace('bn', 'conv')}", f"{block}.{name.replace('conv', 'bn')}"


CLIP_RESNET = Family(
    name="a ResNet",
    shapes=ResNetConfig,
    tower=ModifiedResNet,
    text=CLIP_TEXT,
    layouts={
        "open_clip": FileLayout(
            "ResNet",
            lambda values: open_clip_config(values, _vision),
            _values,
            _entries,
            describes=_has_stages,
        )
    },
    fold=_fold,
    unfold=_unfold,
)
"""OpenAI's ResNets and the bundled CLIP; they are loaded with their norms folded away."""
