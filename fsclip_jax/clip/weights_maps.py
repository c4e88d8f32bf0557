"""Key maps of the file layouts that CLIP weights come in.

Hugging Face's ``CLIPModel`` (PyTorch and Flax naming) and open_clip's, whose names are those
of OpenAI's release.
"""

from collections.abc import Sequence

from fsclip_jax.clip.config import ClipConfig, ResNetConfig, VitConfig
from fsclip_jax.clip.weights import Entry, Layout

IGNORABLE = ("position_ids", "num_batches_tracked", "attn_mask")
"""Endings of keys that are buffers, not weights."""

HF_BLOCK = {
    "norm1": "layer_norm1",
    "attention.q_proj": "self_attn.q_proj",
    "attention.k_proj": "self_attn.k_proj",
    "attention.v_proj": "self_attn.v_proj",
    "attention.out_proj": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
"""Parts of a block: our names, and those of Hugging Face's CLIP and SigLIP."""
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


def block_entries(path: str, key: str, names: dict[str, str]) -> list[Entry]:
    """Map the norms and linear layers of a block, by our names and theirs."""
    entries = []
    for ours, theirs in names.items():
        make = norm_entries if ours.startswith("norm") else linear_entries
        entries += make(f"{path}.{ours}", f"{key}.{theirs}")
    return entries


def _require_vit(config: ClipConfig) -> VitConfig:
    if isinstance(config.vision, ResNetConfig):
        raise ValueError("the Hugging Face layout has no ResNet; save in open_clip layout")
    if not isinstance(config.vision, VitConfig):
        raise ValueError("SigLIP has a key map of its own")
    return config.vision


def hf_map(config: ClipConfig) -> tuple[Entry, ...]:
    """Map of Hugging Face's ``CLIPModel``, as in ``model.safetensors``.

    Args:
        config: shapes of the towers.

    Returns:
        One entry a leaf.

    Raises:
        ValueError: the image tower is a ResNet, which this layout does not know.
    """
    vision = _require_vit(config)
    entries = [
        Entry("logit_scale", "logit_scale"),
        Entry("text.token_embedding", "text_model.embeddings.token_embedding.weight"),
        Entry("text.position_embedding", "text_model.embeddings.position_embedding.weight"),
        Entry("text.projection.kernel", "text_projection.weight", "transposed"),
        *norm_entries("text.final_norm", "text_model.final_layer_norm"),
        Entry(
            "vision.patch_embedding.kernel",
            "vision_model.embeddings.patch_embedding.weight",
            "patch",
        ),
        Entry("vision.class_embedding", "vision_model.embeddings.class_embedding"),
        Entry("vision.position_embedding", "vision_model.embeddings.position_embedding.weight"),
        *norm_entries("vision.pre_norm", "vision_model.pre_layrnorm"),
        *norm_entries("vision.post_norm", "vision_model.post_layernorm"),
        Entry("vision.projection.kernel", "visual_projection.weight", "transposed"),
    ]
    for tower, layers in (("text", config.text.layers), ("vision", vision.layers)):
        for i in range(layers):
            key = f"{tower}_model.encoder.layers.{i}"
            entries += block_entries(f"{tower}.blocks.{i}", key, HF_BLOCK)
    return tuple(entries)


def hf_flax_map(config: ClipConfig) -> tuple[Entry, ...]:
    """Map of Hugging Face's ``FlaxCLIPModel``, as in ``flax_model.msgpack``.

    Flax calls a weight by what it does (kernel, scale, embedding) and keeps kernels with the
    inputs first, as the state does; the keys are otherwise those of ``hf_map``.

    Args:
        config: shapes of the towers.

    Returns:
        One entry a leaf.
    """
    entries = []
    for entry in hf_map(config):
        stem, _, last = entry.key.rpartition(".")
        layout: Layout = "patch_hwio" if entry.layout == "patch" else "same"
        if last == "weight":
            leaf = entry.path.rpartition(".")[2]
            last = leaf if leaf in ("kernel", "scale") else "embedding"
        entries.append(Entry(entry.path, f"{stem}.{last}" if stem else last, layout))
    return tuple(entries)


def open_clip_map(config: ClipConfig) -> tuple[Entry, ...]:
    """Map of open_clip's ``CLIP``, as in ``open_clip_model.safetensors``.

    Args:
        config: shapes of the towers; the image tower may be a ViT or a modified ResNet.

    Returns:
        One entry a leaf.
    """
    entries = [
        Entry("logit_scale", "logit_scale"),
        Entry("text.token_embedding", "token_embedding.weight"),
        Entry("text.position_embedding", "positional_embedding"),
        Entry("text.projection.kernel", "text_projection"),
        *norm_entries("text.final_norm", "ln_final"),
        *_open_clip_blocks("text.blocks", "transformer.resblocks", config.text.layers),
    ]
    if isinstance(config.vision, ResNetConfig):
        entries += _open_clip_resnet(config.vision.layers)
    else:
        entries += [
            Entry("vision.patch_embedding.kernel", "visual.conv1.weight", "patch"),
            Entry("vision.class_embedding", "visual.class_embedding"),
            Entry("vision.position_embedding", "visual.positional_embedding"),
            *norm_entries("vision.pre_norm", "visual.ln_pre"),
            *norm_entries("vision.post_norm", "visual.ln_post"),
            Entry("vision.projection.kernel", "visual.proj"),
            *_open_clip_blocks(
                "vision.blocks", "visual.transformer.resblocks", config.vision.layers
            ),
        ]
    return tuple(entries)


def _open_clip_blocks(path: str, key: str, layers: int) -> list[Entry]:
    entries = []
    for i in range(layers):
        for part, name in enumerate(("q_proj", "k_proj", "v_proj")):
            ours, theirs = f"{path}.{i}.attention.{name}", f"{key}.{i}.attn.in_proj"
            entries += [
                Entry(f"{ours}.kernel", f"{theirs}_weight", "transposed", (part, 3)),
                Entry(f"{ours}.bias", f"{theirs}_bias", "same", (part, 3)),
            ]
        entries += block_entries(f"{path}.{i}", f"{key}.{i}", _OPEN_CLIP_BLOCK)
    return entries


def _open_clip_resnet(layers: Sequence[int]) -> list[Entry]:
    entries = []
    for i in (1, 2, 3):
        entries += _conv(f"vision.conv{i}", f"visual.conv{i}")
        entries += _batch_norm(f"vision.bn{i}", f"visual.bn{i}")
    for stage, depth in enumerate(layers):
        for block in range(depth):
            path, key = f"vision.stages.{stage}.{block}", f"visual.layer{stage + 1}.{block}"
            for i in (1, 2, 3):
                entries += _conv(f"{path}.conv{i}", f"{key}.conv{i}")
                entries += _batch_norm(f"{path}.bn{i}", f"{key}.bn{i}")
            if block == 0:  # every stage widens its input in its first block
                entries += _conv(f"{path}.downsample_conv", f"{key}.downsample.0")
                entries += _batch_norm(f"{path}.downsample_bn", f"{key}.downsample.1")
    path, key = "vision.attnpool", "visual.attnpool"
    entries.append(Entry(f"{path}.position_embedding", f"{key}.positional_embedding"))
    for ours, theirs in zip(
        ("q_proj", "k_proj", "v_proj", "out_proj"),
        ("q_proj", "k_proj", "v_proj", "c_proj"),
        strict=True,
    ):
        entries += linear_entries(f"{path}.{ours}", f"{key}.{theirs}")
    return entries


def _conv(path: str, key: str) -> list[Entry]:
    return [Entry(f"{path}.kernel", f"{key}.weight", "conv")]


def _batch_norm(path: str, key: str) -> list[Entry]:
    return [
        *norm_entries(path, key),
        Entry(f"{path}.mean", f"{key}.running_mean"),
        Entry(f"{path}.var", f"{key}.running_var"),
    ]
