"""Save a CLIP as a model folder that ``load_clip``, transformers and open_clip read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.families import family_of, layout_of
from fsclip_jax.clip.family import LayoutName
from fsclip_jax.clip.files import write_safetensors
from fsclip_jax.clip.folding import unfold_norms
from fsclip_jax.clip.layout_hf import hf_preprocess_values
from fsclip_jax.clip.layout_open_clip import open_clip_preprocess_values
from fsclip_jax.clip.layouts import HF_CONFIG, OPEN_CLIP_CONFIG
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.tokenizer import Tokenizer
from fsclip_jax.clip.weights import Entry, read_state
from fsclip_jax.durable import write_file
from fsclip_jax.typing import Params


def save_clip(
    layout: LayoutName,
    folder: Path,
    config: ClipConfig,
    state: Params,
    preprocess: Preprocess,
    tokenizer: Tokenizer | None = None,
    *,
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Save weights, configs and tokenizer in the layout of Hugging Face ("hf") or open_clip.

    Files of the same names are replaced. Without a tokenizer the folder does not load here. Odd
    margins of pictures are rounded as the layout's own library rounds them.

    Raises:
        ValueError: the layout cannot say these shapes, or a weight does not fit into float16.
    """
    config, state = unfold_norms(config, state)
    files = layout_of(config, layout)
    values, entries = files.write(config), files.entries(config)
    folder.mkdir(parents=True, exist_ok=True)
    if tokenizer is not None:
        tokenizer.save(folder)
    if layout == "open_clip":
        _write_weights(folder / "open_clip_model.safetensors", state, entries, dtype)
        images = open_clip_preprocess_values(preprocess)
        values = {"model_cfg": values, "preprocess_cfg": images}
        _write_json(folder / OPEN_CLIP_CONFIG, values)
        return
    if tokenizer is not None:
        ids = {name: getattr(tokenizer.backend, name) for name in ("bos_token_id", "pad_token_id")}
        values["text_config"] |= ids
    _write_weights(folder / "model.safetensors", state, entries, dtype)
    images = hf_preprocess_values(preprocess, family_of(config).processor)
    _write_json(folder / "preprocessor_config.json", images)
    _write_json(folder / HF_CONFIG, {**values, "dtype": dtype})


def _write_weights(path: Path, state: Params, entries: Sequence[Entry], dtype: str) -> None:
    tensors = read_state(state, entries)
    largest = np.finfo(dtype).max
    large = [key for key, array in tensors.items() if np.abs(array).max(initial=0) > largest]
    if large:
        raise ValueError(f"these weights do not fit into {dtype}: {', '.join(large)}")
    write_safetensors(path, tensors, dtype)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_file(path, (json.dumps(values, indent=2) + "\n").encode())
