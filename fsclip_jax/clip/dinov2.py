"""The family of DINOv2: image towers without text, and how Hugging Face's files say it.

Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024; with
registers: Darcet et al., Vision Transformers Need Registers, ICLR 2024.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fsclip_jax.clip.attention import Attention, embedding, linear, vector
from fsclip_jax.clip.config import ClipConfig, Dinov2Config
from fsclip_jax.clip.config_fields import activation_name, activation_of, build_config
from fsclip_jax.clip.family import Family, FileLayout
from fsclip_jax.clip.layout_hf import patch_shapes, patch_values, tower_fields
from fsclip_jax.clip.micro_batches import in_pieces, require_size, transformer_piece
from fsclip_jax.clip.positions import resize_positions
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.transformer import activate, layer_norm, take_position
from fsclip_jax.clip.vit import cut_patches
from fsclip_jax.clip.weights import Entry
from fsclip_jax.clip.weights_maps import block_entries, linear_entries, norm_entries
from fsclip_jax.errors import UserError
from fsclip_jax.typing import Array, Float, Int

TowerConfig: TypeAlias = ClipConfig[Dinov2Config, None]
"""The shapes of the tower, beside no text."""


class ScaledBlock(nnx.Module):
    """``x + s_1 attention(norm(x))``, then ``x + s_2 perceptron(norm(x))``, ``s`` a channel's."""

    def __init__(self, config: Dinov2Config, *, rngs: nnx.Rngs):
        self.config = config
        width, std = config.width, config.width**-0.5
        self.norm1 = layer_norm(width, config.norm_eps, rngs=rngs)
        self.attention = Attention(width, config.heads, std, rngs=rngs)
        self.scale1 = nnx.Param(jnp.ones(width))
        self.norm2 = layer_norm(width, config.norm_eps, rngs=rngs)
        if config.gated:
            self.gate = linear(width, config.mlp_width, std, rngs=rngs)
        self.fc1 = linear(width, config.mlp_width, std, rngs=rngs)
        self.fc2 = linear(config.mlp_width, width, std, rngs=rngs)
        self.scale2 = nnx.Param(jnp.ones(width))

    def __call__(
        self, x: Float[Array, "batch length width"], at: Int[Array, "batch"] | None = None
    ) -> Float[Array, "batch kept width"]:
        """Run the block, at every position or only at one position of each sequence."""
        source = asked = self.norm1(x)
        if at is not None:
            x, asked = take_position(x, at), take_position(source, at)
        x = x + self.scale1[...][None, None] * self.attention(asked, source, None)
        y = self.norm2(x)
        hidden = self.fc1(y)
        if self.config.gated:
            hidden = jax.nn.silu(self.gate(y)) * hidden
        else:
            hidden = activate(hidden, self.config.activation)
        return x + self.scale2[...][None, None] * self.fc2(hidden)


class Dinov2Vision(nnx.Module):
    """Patches, a class token and registers through scaled blocks, read at the class token.

    The feature is the class token behind the last norm: ``pooler_output`` in transformers, and
    what DINOv2's own nearest-neighbour evaluation reads (section 7.1 there). Its linear probe on
    ImageNet adds the mean of the patches, which a handful of shots has no need of.

    Example:
        >>> config = Dinov2Config(32, 14, 24, 2, 3, 48, registers=4)
        >>> Dinov2Vision(config, rngs=nnx.Rngs(0))(jnp.zeros((5, 32, 32, 3))).shape
        (5, 24)
    """

    def __init__(self, config: Dinov2Config, *, rngs: nnx.Rngs):
        self.config = config
        width, values = config.width, 3 * config.patch_size**2
        std = width**-0.5
        self.patch_embedding = linear(values, width, values**-0.5, rngs=rngs)
        self.class_embedding = vector(width, std, rngs=rngs)
        self.position_embedding = embedding(config.grid**2 + 1, width, std, rngs=rngs)
        if config.registers:
            self.registers = embedding(config.registers, width, std, rngs=rngs)
        self.blocks = nnx.List([ScaledBlock(config, rngs=rngs) for _ in range(config.layers)])
        self.post_norm = layer_norm(width, config.norm_eps, rngs=rngs)

    def __call__(self, pixels: Float[Array, "batch size size 3"]) -> Float[Array, "batch dim"]:
        """Encode normalised images of side ``image_size``; features are not normalised."""

        def encode(pixels: Array) -> Array:
            x = self._tokens(pixels)
            for block in self.blocks[:-1]:
                x = block(x)
            x = self.blocks[-1](x, jnp.zeros(x.shape[0], jnp.int32))
            return self.post_norm(x[:, 0])

        return in_pieces(encode, pixels, self._piece())

    def with_patches(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> tuple[Float[Array, "batch dim"], Float[Array, "batch patches dim"]]:
        """Encode images as a whole and patch by patch, the last hidden vectors behind the norm."""

        def encode(pixels: Array) -> tuple[Array, Array]:
            x = self._tokens(pixels)
            for block in self.blocks:
                x = block(x)
            x = self.post_norm(x)
            return x[:, 0], x[:, 1 + self.config.registers :]

        return in_pieces(encode, pixels, self._piece())

    def _piece(self) -> int:
        length = self.config.grid**2 + 1 + self.config.registers
        return transformer_piece(length, self.config.mlp_width * (1 + self.config.gated))

    def _tokens(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch length width"]:
        config = self.config
        require_size(pixels, config.image_size)
        whole = config.grid * config.patch_size
        patches = self.patch_embedding(cut_patches(pixels[:, :whole, :whole], config.patch_size))
        positions = self.position_embedding[...]
        first = (self.class_embedding[...] + positions[0])[None]
        if config.registers:  # they have no position
            first = jnp.concatenate([first, self.registers[...]])
        first = jnp.broadcast_to(first[None], (patches.shape[0], *first.shape))
        return jnp.concatenate([first, patches + positions[None, 1:]], axis=1)


_REGISTERS = "dinov2_with_registers"
# The values that transformers gives to what a config.json leaves out.
_FIELDS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "image_size": 224,
    "patch_size": 14,
    "num_channels": 3,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
    "num_register_tokens": 0,
}
_BLOCK = {
    "norm1": "norm1",
    "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value",
    "attention.out_proj": "attention.output.dense",
    "norm2": "norm2",
}


def _hidden(width: int, ratio: int, gated: bool) -> int:
    # As transformers rounds: of a gated perceptron two thirds, up to a multiple of 8.
    return (int(width * ratio * 2 / 3) + 7) // 8 * 8 if gated else width * ratio


def _read(values: Mapping[str, Any]) -> TowerConfig:
    with_registers = values.get("model_type") == _REGISTERS
    own = {"num_register_tokens": 4, "patch_size": 16} if with_registers else {}
    fields = tower_fields({"vision_config": values}, "vision", _FIELDS | own)
    if not fields["qkv_bias"]:
        raise UserError("the config has qkv_bias=false; only towers with these biases are accepted")

    def build() -> TowerConfig:
        width, gated = fields["hidden_size"], fields["use_swiglu_ffn"]
        return ClipConfig(
            Dinov2Config(
                **patch_shapes(fields),
                width=width,
                layers=fields["num_hidden_layers"],
                heads=fields["num_attention_heads"],
                mlp_width=_hidden(width, fields["mlp_ratio"], gated),
                gated=gated,
                registers=fields["num_register_tokens"] if with_registers else 0,
                activation=activation_of(fields["hidden_act"]),
                norm_eps=fields["layer_norm_eps"],
            ),
            None,
        )

    return build_config(build)


def _write(config: TowerConfig) -> dict[str, Any]:
    vision = config.vision
    width, hidden, gated = vision.width, vision.mlp_width, vision.gated
    ratio = next((r for r in range(1, 65) if _hidden(width, r, gated) == hidden), None)
    if ratio is None:
        raise ValueError("Hugging Face's mlp_ratio is a whole number, which says no such width")
    named = {"num_register_tokens": vision.registers} if vision.registers else {}
    return {
        "architectures": ["Dinov2WithRegistersModel" if named else "Dinov2Model"],
        "model_type": _REGISTERS if named else "dinov2",
        "hidden_size": vision.width,
        "num_hidden_layers": vision.layers,
        "num_attention_heads": vision.heads,
        "mlp_ratio": ratio,
        "hidden_act": activation_name(vision.activation),
        "layer_norm_eps": vision.norm_eps,
        "use_swiglu_ffn": vision.gated,
        **patch_values(vision),
        **named,
    }


def _entries(config: TowerConfig) -> tuple[Entry, ...]:
    vision, ours = config.vision, "vision.blocks"
    entries = [
        Entry("vision.class_embedding", "embeddings.cls_token", "squeezed"),
        Entry("vision.position_embedding", "embeddings.position_embeddings", "first"),
        Entry(
            "vision.patch_embedding.kernel",
            "embeddings.patch_embeddings.projection.weight",
            "patch",
        ),
        Entry("vision.patch_embedding.bias", "embeddings.patch_embeddings.projection.bias"),
        *norm_entries("vision.post_norm", "layernorm"),
    ]
    if vision.registers:
        entries.append(Entry("vision.registers", "embeddings.register_tokens", "first"))
    for i in range(vision.layers):
        path, key = f"{ours}.{i}", f"encoder.layer.{i}"
        entries += block_entries(path, key, _BLOCK)
        entries += [Entry(f"{path}.scale{n}", f"{key}.layer_scale{n}.lambda1") for n in (1, 2)]
        if vision.gated:
            for part, name in enumerate(("gate", "fc1")):
                weight, bias = (f"{key}.mlp.weights_in.{last}" for last in ("weight", "bias"))
                entries += [
                    Entry(f"{path}.{name}.kernel", weight, "transposed", (part, 2)),
                    Entry(f"{path}.{name}.bias", bias, "same", (part, 2)),
                ]
            entries += linear_entries(f"{path}.fc2", f"{key}.mlp.weights_out")
        else:
            entries += linear_entries(f"{path}.fc1", f"{key}.mlp.fc1")
            entries += linear_entries(f"{path}.fc2", f"{key}.mlp.fc2")
    return tuple(entries)


# What transformers 5 calls in memory what all files call otherwise.
_IN_MEMORY = {
    ".attention.q_proj.": ".attention.attention.query.",
    ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.",
    ".attention.o_proj.": ".attention.output.dense.",
    ".mlp.down_proj.": ".mlp.weights_out.",
}


def _tidy(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    named = {}
    for key, array in tensors.items():
        for ours, theirs in _IN_MEMORY.items():
            key = key.replace(ours, theirs)
        gate = key.replace(".mlp.up_proj.", ".mlp.gate_proj.")
        if gate != key and gate in tensors:
            key, array = (
                key.replace(".up_proj.", ".weights_in."),
                np.concatenate([tensors[gate], array]),
            )
        if ".mlp.gate_proj." not in key:
            named[key] = array
    return named


def _fit_positions(
    table: Float[np.ndarray, "given width"], vision: Dinov2Config
) -> Float[np.ndarray, "fitted width"] | None:
    # As transformers does it: antialiased in the towers with registers alone.
    return resize_positions(table, vision.grid, 1, antialias=vision.registers > 0)


IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

DINOV2 = Family(
    name="DINOv2",
    shapes=Dinov2Config,
    tower=Dinov2Vision,
    text=None,
    layouts={
        "hf": FileLayout(
            "dinov2",
            _read,
            _write,
            _entries,
            lambda values: values.get("model_type") in ("dinov2", _REGISTERS),
            _tidy,
        )
    },
    preprocess=Preprocess(224, IMAGENET_MEAN, IMAGENET_STD, edge=256),
    processor="BitImageProcessor",
    fit_positions=_fit_positions,
)
"""DINOv2, with and without registers, and what was trained further from it."""
