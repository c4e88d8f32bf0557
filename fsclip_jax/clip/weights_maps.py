"""Parts of the key maps by which families find their weights in files."""

from dataclasses import replace
from typing import Any

import numpy as np

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.weights import ArrayLayout, Entry

IGNORABLE = ("position_ids", "num_batches_tracked", "attn_mask", "mask_token")
"""Endings of keys that are buffers, or of use in training alone."""

_HF_BLOCK = {
    "norm1": "layer_norm1",
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.out_proj": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
_OPEN_CLIP_BLOCK = {
    "norm1": "ln_1",
    "attention.out_proj": "attn.out_proj",
    "norm2": "ln_2",
    "fc1": "mlp.c_fc",
    "fc2": "mlp.c_proj",
}


def norm_entries(path: str, key: str) -> list[Entry]:
    """Map a norm of PyTorch's."""
    return [Entry(f"{path}.scale", f"{key}.weight"), Entry(f"{path}.bias", f"{key}.bias")]


def linear_entries(path: str, key: str) -> list[Entry]:
    """Map a linear layer of PyTorch's."""
    return [
        Entry(f"{path}.kernel", f"{key}.weight", "transposed"),
        Entry(f"{path}.bias", f"{key}.bias"),
    ]


def stacked_entries(path: str, key: str) -> list[Entry]:
    """Map the projections of PyTorch's attention, which lie in one array: ``in_proj``."""
    entries = []
    for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
        entries += [
            Entry(f"{path}.{name}.kernel", f"{key}.in_proj_weight", "transposed", (part, 3)),
            Entry(f"{path}.{name}.bias", f"{key}.in_proj_bias", "same", (part, 3)),
        ]
    return entries


def block_entries(path: str, key: str, names: dict[str, str]) -> list[Entry]:
    """Map a residual block, whose norms are called ``norm...``."""
    entries = []
    for ours, theirs in names.items():
        make = norm_entries if ours.startswith("norm") else linear_entries
        entries += make(f"{path}.{ours}", f"{key}.{theirs}")
    return entries


def hf_common(config: ClipConfig) -> list[Entry]:
    """Map what Hugging Face's CLIP and SigLIP have alike: blocks, embeddings, norms."""
    entries = hf_vision(config.vision)
    entries += [
        Entry("text.token_embedding", "text_model.embeddings.token_embedding.weight"),
        Entry("text.position_embedding", "text_model.embeddings.position_embedding.weight"),
        *norm_entries("text.final_norm", "text_model.final_layer_norm"),
    ]
    return entries + _hf_blocks("text", config.text.layers)


def hf_vision(vision: Any) -> list[Entry]:
    """Map what the image towers of Hugging Face's CLIP and SigLIP have alike."""
    entries = [
        Entry(
            "vision.patch_embedding.kernel",
            "vision_model.embeddings.patch_embedding.weight",
            "patch",
        ),
        Entry("vision.position_embedding", "vision_model.embeddings.position_embedding.weight"),
        *norm_entries("vision.post_norm", "vision_model.post_layernorm"),
    ]
    return entries + _hf_blocks("vision", vision.layers)


def name_tower(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Call an image tower alone ``vision_model.``, as all releases of transformers but some do."""
    plain = not any(key.startswith("vision_model.") for key in tensors)
    return {f"vision_model.{key}": x for key, x in tensors.items()} if plain else tensors


def _hf_blocks(tower: str, layers: int) -> list[Entry]:
    keys = [(f"{tower}.blocks.{i}", f"{tower}_model.encoder.layers.{i}") for i in range(layers)]
    return [entry for path, key in keys for entry in block_entries(path, key, _HF_BLOCK)]


def flax_entry(entry: Entry) -> Entry:
    """Turn an entry of Hugging Face's PyTorch file into that of its ``flax_model.msgpack``.

    Flax keeps kernels with the inputs first, as the state does.
    """
    stem, _, last = entry.key.rpartition(".")
    layout: ArrayLayout = "patch_hwio" if entry.layout == "patch" else "same"
    if last == "weight":
        leaf = entry.path.rpartition(".")[2]
        last = leaf if leaf in ("kernel", "scale") else "embedding"
    return replace(entry, key=f"{stem}.{last}" if stem else last, layout=layout)


def open_clip_blocks(path: str, key: str, layers: int) -> list[Entry]:
    """Map the blocks of one of open_clip's transformers."""
    entries = []
    for i in range(layers):
        entries += stacked_entries(f"{path}.{i}.attention", f"{key}.{i}.attn")
        entries += block_entries(f"{path}.{i}", f"{key}.{i}", _OPEN_CLIP_BLOCK)
    return entries


def open_clip_text(config: ClipConfig) -> list[Entry]:
    """Map what open_clip's CLIPs have beside the image tower; the names are OpenAI's."""
    return [
        Entry("logit_scale", "logit_scale"),
        Entry("text.token_embedding", "token_embedding.weight"),
        Entry("text.position_embedding", "positional_embedding"),
        Entry("text.projection.kernel", "text_projection"),
        *norm_entries("text.final_norm", "ln_final"),
        *open_clip_blocks("text.blocks", "transformer.resblocks", config.text.layers),
    ]
