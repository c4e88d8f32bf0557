"""The family of SigLIP: towers out of the blocks that CLIP's are made of, and how files say it.

Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023; SigLIP 2 has the same ones
at its fixed resolutions (Tschannen et al., SigLIP 2, 2025).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax.numpy as jnp
from flax import nnx

from fsclip_jax.clip.attention import Attention, embedding, linear, vector
from fsclip_jax.clip.config import ClipConfig, SiglipTextConfig, SiglipVisionConfig
from fsclip_jax.clip.config_fields import build_config, require_sizes
from fsclip_jax.clip.family import Family, FileLayout, TextSide
from fsclip_jax.clip.layout_hf import (
    patch_shapes,
    patch_values,
    tower_fields,
    tower_shapes,
    tower_values,
)
from fsclip_jax.clip.micro_batches import in_pieces, require_size, transformer_piece
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.tokenizer import Tokenizer, load_siglip_tokenizer
from fsclip_jax.clip.transformer import activate, layer_norm, make_blocks, run_blocks
from fsclip_jax.clip.vit import cut_patches
from fsclip_jax.clip.weights import Entry
from fsclip_jax.clip.weights_maps import (
    hf_common,
    hf_vision,
    linear_entries,
    name_tower,
    norm_entries,
    stacked_entries,
)
from fsclip_jax.errors import UserError
from fsclip_jax.typing import Array, Float, Int

SiglipConfig: TypeAlias = ClipConfig[SiglipVisionConfig, SiglipTextConfig]
"""Shapes of both towers."""


class PoolingHead(nnx.Module):
    """A learned query that attends to the patches, and a perceptron added to what it finds.

    Source: Lee et al., Set Transformer, ICML 2019, section 3.2.
    """

    def __init__(self, config: SiglipVisionConfig, *, rngs: nnx.Rngs):
        width, std = config.width, config.width**-0.5
        self.activation = config.activation
        self.probe = vector(width, std, rngs=rngs)
        self.attention = Attention(width, config.heads, std, rngs=rngs)
        self.norm = layer_norm(width, config.norm_eps, rngs=rngs)
        self.fc1 = linear(width, config.mlp_width, std, rngs=rngs)
        self.fc2 = linear(config.mlp_width, width, std, rngs=rngs)

    def __call__(self, x: Float[Array, "batch patches width"]) -> Float[Array, "batch width"]:
        """Pool the patches of each image."""
        probe = jnp.broadcast_to(self.probe[...][None, None], (x.shape[0], 1, x.shape[-1]))
        return self._finish(self.attention(probe.astype(x.dtype), x, None))[:, 0]

    def every_position(
        self, x: Float[Array, "batch patches width"]
    ) -> Float[Array, "batch patches width"]:
        """Give each patch as if the query looked at it alone."""
        return self._finish(self.attention.out_proj(self.attention.v_proj(x)))

    def _finish(self, y: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        return y + self.fc2(activate(self.fc1(self.norm(y)), self.activation))


class SiglipVision(nnx.Module):
    """Patches through residual attention blocks, read by a pooling head.

    Example:
        >>> config = SiglipVisionConfig(36, 16, 24, 2, 3, 48)
        >>> SiglipVision(config, rngs=nnx.Rngs(0))(jnp.zeros((5, 36, 36, 3))).shape
        (5, 24)
    """

    def __init__(self, config: SiglipVisionConfig, *, rngs: nnx.Rngs):
        self.config = config
        width, values = config.width, 3 * config.patch_size**2
        self.patch_embedding = linear(values, width, values**-0.5, rngs=rngs)
        self.position_embedding = embedding(config.grid**2, width, width**-0.5, rngs=rngs)
        self.blocks = nnx.List(make_blocks(config, causal=False, rngs=rngs))
        self.post_norm = layer_norm(width, config.norm_eps, rngs=rngs)
        self.head = PoolingHead(config, rngs=rngs)

    def __call__(self, pixels: Float[Array, "batch size size 3"]) -> Float[Array, "batch dim"]:
        """Encode normalised images of side ``image_size``; features are not normalised."""
        return in_pieces(lambda x: self.head(self._patches(x)), pixels, self._piece())

    def with_patches(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> tuple[Float[Array, "batch dim"], Float[Array, "batch patches dim"]]:
        """Encode images, and their patches row by row, each as if pooling saw it alone."""

        def encode(pixels: Array) -> tuple[Array, Array]:
            x = self._patches(pixels)
            return self.head(x), self.head.every_position(x)

        return in_pieces(encode, pixels, self._piece())

    def _piece(self) -> int:
        return transformer_piece(self.config.grid**2, self.config.mlp_width)

    def _patches(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch patches width"]:
        require_size(pixels, self.config.image_size)
        patch, whole = self.config.patch_size, self.config.grid * self.config.patch_size
        x = self.patch_embedding(cut_patches(pixels[:, :whole, :whole], patch))
        x = x + self.position_embedding[...][None].astype(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.post_norm(x)


class SiglipText(nnx.Module):
    """Token and position embeddings, blocks, a norm, read at the last position, a projection.

    Attention is not causal and the padding is not masked, so a prompt is only encoded at its
    full length.

    Example:
        >>> config = SiglipTextConfig(32, 4, 16, 2, 2, 32, embed_dim=8)
        >>> SiglipText(config, rngs=nnx.Rngs(0))(jnp.array([[30, 5, 1, 1]])).shape
        (1, 8)
    """

    def __init__(self, config: SiglipTextConfig, *, rngs: nnx.Rngs):
        self.config = config
        width, std = config.width, config.width**-0.5
        self.token_embedding = embedding(config.vocab_size, width, std, rngs=rngs)
        self.position_embedding = embedding(config.context_length, width, std, rngs=rngs)
        self.blocks = nnx.List(make_blocks(config, causal=False, rngs=rngs))
        self.final_norm = layer_norm(width, config.norm_eps, rngs=rngs)
        self.projection = linear(width, config.embed_dim, std, rngs=rngs)

    def embed(self, ids: Int[Array, "*shape"]) -> Float[Array, "*shape width"]:
        """Look up token embeddings, before positions are added; an id out of range gives NaN."""
        return jnp.take(self.token_embedding[...], ids, axis=0, mode="fill")

    def __call__(
        self,
        ids: Int[Array, "batch length"] | None = None,
        *,
        embeds: Float[Array, "batch length width"] | None = None,
        ends: Int[Array, "batch"] | None = None,
    ) -> Float[Array, "batch dim"]:
        """Encode prompts given as token ids or embeddings, padded to ``context_length``.

        Every prompt is read at its last position, whatever ``ends`` says.

        Raises:
            ValueError: neither ``ids`` nor ``embeds``; or prompts of another length.
        """
        del ends
        if embeds is None:
            if ids is None:
                raise ValueError("give token ids or token embeddings")
            embeds = self.embed(ids)
        if embeds.shape[1] != self.config.context_length:
            raise ValueError(
                f"prompts have {embeds.shape[1]} tokens; SigLIP reads the last of exactly "
                f"{self.config.context_length}"
            )
        x = embeds + self.position_embedding[...][None].astype(embeds.dtype)
        x = run_blocks(self.blocks, x, jnp.full(len(x), x.shape[1] - 1, jnp.int32))
        return self.projection(self.final_norm(x))


# The values that transformers gives to what a config.json leaves out.
_BOTH = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "hidden_act": "gelu_pytorch_tanh",
    "layer_norm_eps": 1e-6,
}
_VISION = _BOTH | {
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 16,
    "vision_use_head": True,
}
_TEXT = _BOTH | {"vocab_size": 32000, "max_position_embeddings": 64}


def _vision(values: Mapping[str, Any]) -> SiglipVisionConfig:
    vision = tower_fields(values, "vision", _VISION)
    if not vision["vision_use_head"]:
        raise UserError("the config has vision_use_head=false; only towers with it are accepted")
    return build_config(lambda: SiglipVisionConfig(**patch_shapes(vision), **tower_shapes(vision)))


def _read(values: Mapping[str, Any]) -> SiglipConfig:
    vision, text = _vision(values), tower_fields(values, "text", _TEXT)
    given = values.get("text_config") or {}
    embed_dim = given.get("projection_size") or text["hidden_size"]
    require_sizes({"projection_size": embed_dim}, ["projection_size"], "text_config.")
    return build_config(
        lambda: ClipConfig(
            vision=vision,
            text=SiglipTextConfig(
                vocab_size=text["vocab_size"],
                context_length=text["max_position_embeddings"],
                embed_dim=embed_dim,
                **tower_shapes(text),
            ),
        )
    )


def _vision_values(vision: SiglipVisionConfig) -> dict[str, Any]:
    kind = {"model_type": "siglip_vision_model"}
    return tower_values(vision) | patch_values(vision) | kind


def _write(config: SiglipConfig) -> dict[str, Any]:
    vision, text = config.vision, config.text
    return {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "vision_config": _vision_values(vision),
        "text_config": tower_values(text)
        | {
            "model_type": "siglip_text_model",
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "projection_size": text.embed_dim,
        },
    }


def _entries(config: SiglipConfig) -> tuple[Entry, ...]:
    return (
        Entry("logit_scale", "logit_scale", "squeezed"),
        Entry("logit_bias", "logit_bias", "squeezed"),
        *linear_entries("text.projection", "text_model.head"),
        *_vision_own(),
        *hf_common(config),
    )


def _vision_own() -> list[Entry]:
    """Map what the image tower has that CLIP's has not."""
    ours, theirs = "vision.head", "vision_model.head"
    return [
        Entry("vision.patch_embedding.bias", "vision_model.embeddings.patch_embedding.bias"),
        Entry(f"{ours}.probe", f"{theirs}.probe", "squeezed"),
        *stacked_entries(f"{ours}.attention", f"{theirs}.attention"),
        *linear_entries(f"{ours}.attention.out_proj", f"{theirs}.attention.out_proj"),
        *norm_entries(f"{ours}.norm", f"{theirs}.layernorm"),
        *linear_entries(f"{ours}.fc1", f"{theirs}.mlp.fc1"),
        *linear_entries(f"{ours}.fc2", f"{theirs}.mlp.fc2"),
    ]


def _tokenizer(folder: Path, text: SiglipTextConfig, bundled: bool) -> Tokenizer:
    del bundled  # none is
    return load_siglip_tokenizer(folder, text.context_length)


_HALF = (0.5, 0.5, 0.5)
_PREPROCESS = Preprocess(224, _HALF, _HALF, fit="squash")

SIGLIP = Family(
    name="SigLIP",
    shapes=SiglipVisionConfig,
    tower=SiglipVision,
    text=TextSide(
        SiglipTextConfig,
        SiglipText,
        _tokenizer,
        no_prompts="is a SigLIP, whose text tower has no start token and is not causal",
    ),
    layouts={"hf": FileLayout("siglip", _read, _write, _entries)},
    preprocess=_PREPROCESS,
    processor="SiglipImageProcessor",
    logit_bias=-10.0,
)
"""SigLIP, and SigLIP 2 of fixed resolutions."""


SIGLIP_ALONE = Family(
    name="a SigLIP's image tower alone",
    shapes=SiglipVisionConfig,
    tower=SiglipVision,
    text=None,
    layouts={
        "hf": FileLayout(
            "siglip_vision_model",
            lambda values: ClipConfig(_vision({"vision_config": values}), None),
            lambda config: {
                "architectures": ["SiglipVisionModel"],
                **_vision_values(config.vision),
            },
            lambda config: (*_vision_own(), *hf_vision(config.vision)),
            tidy=name_tower,
        )
    },
    preprocess=_PREPROCESS,
    processor="SiglipImageProcessor",
)
"""The image tower that transformers saves as ``SiglipVisionModel``."""
