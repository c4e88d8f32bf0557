"""Save a CLIP as a model folder that ``load_clip``, transformers and open_clip read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fsclip_jax.clip.config import ClipConfig, SiglipTextConfig
from fsclip_jax.clip.files import write_safetensors
from fsclip_jax.clip.folding import unfold_norms
from fsclip_jax.clip.layout_hf import hf_preprocess_values, hf_values
from fsclip_jax.clip.layout_open_clip import open_clip_preprocess_values, open_clip_values
from fsclip_jax.clip.layout_siglip import siglip_map, siglip_values
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.tokenizer import Tokenizer
from fsclip_jax.clip.weights import Entry, read_state
from fsclip_jax.clip.weights_maps import hf_map, open_clip_map
from fsclip_jax.durable import write_file
from fsclip_jax.typing import Params


def save_hf(
    folder: Path,
    config: ClipConfig,
    state: Params,
    preprocess: Preprocess,
    tokenizer: Tokenizer | None = None,
    *,
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Save in Hugging Face layout: config.json, model.safetensors, preprocessor_config.json.

    Args:
        folder: made when missing; its files of the same names are replaced.
        tokenizer: its files are saved too; without one the folder does not load here.

    Raises:
        ValueError: the image tower is a ResNet, or a weight does not fit into float16.
    """
    siglip = isinstance(config.text, SiglipTextConfig)
    values = siglip_values(config) if siglip else hf_values(config)
    entries = siglip_map(config) if siglip else hf_map(config)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save(folder)
        for token in ("bos_token_id", "pad_token_id"):
            values["text_config"][token] = getattr(tokenizer.backend, token)
    _write_weights(folder / "model.safetensors", state, entries, dtype)
    images = hf_preprocess_values(preprocess, siglip=siglip)
    _write_json(folder / "preprocessor_config.json", images)
    _write_json(folder / "config.json", {**values, "dtype": dtype})


def save_open_clip(
    folder: Path,
    config: ClipConfig,
    state: Params,
    preprocess: Preprocess,
    tokenizer: Tokenizer | None = None,
    *,
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Save in open_clip layout: open_clip_config.json and open_clip_model.safetensors.

    Args:
        folder: made when missing; its files of the same names are replaced.
        preprocess: pictures to pixels; open_clip rounds odd margins its own way.
        tokenizer: its files are saved too; without one the folder does not load here.

    Raises:
        ValueError: open_clip's config cannot say these shapes, or a weight does not fit into
            float16.
    """
    config, state = unfold_norms(config, state)
    values = {
        "model_cfg": open_clip_values(config),
        "preprocess_cfg": open_clip_preprocess_values(preprocess),
    }
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save(folder)
    _write_weights(folder / "open_clip_model.safetensors", state, open_clip_map(config), dtype)
    _write_json(folder / "open_clip_config.json", values)


def _write_weights(path: Path, state: Params, entries: Sequence[Entry], dtype: str) -> None:
    tensors = read_state(state, entries)
    largest = np.finfo(dtype).max
    large = [key for key, array in tensors.items() if np.abs(array).max(initial=0) > largest]
    if large:
        raise ValueError(f"these weights do not fit into {dtype}: {', '.join(large)}")
    write_safetensors(path, tensors, dtype)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_file(path, (json.dumps(values, indent=2) + "\n").encode())
