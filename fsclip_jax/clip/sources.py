"""Read all that makes a CLIP out of a model folder or a single weights file."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fsclip_jax.clip.bpe import VOCAB_SIZE, bundled_tokenizer
from fsclip_jax.clip.config import ClipConfig, SiglipTextConfig
from fsclip_jax.clip.files import WEIGHTS, read_json, read_tensors, sha256_of, shard_paths
from fsclip_jax.clip.layout_hf import hf_config, hf_preprocess
from fsclip_jax.clip.layout_open_clip import open_clip_config, open_clip_preprocess
from fsclip_jax.clip.layout_openai import MARKS, SUMS, is_open_clip_keys, shapes_config
from fsclip_jax.clip.layout_siglip import siglip_config, siglip_map
from fsclip_jax.clip.layouts import (
    HF_CONFIG,
    OPEN_CLIP_CONFIG,
    PREFERENCE,
    choose_weights,
    layouts_of,
)
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.tokenizer import (
    TOKENIZER_FILES,
    Tokenizer,
    load_siglip_tokenizer,
    load_tokenizer,
)
from fsclip_jax.clip.weights import Entry
from fsclip_jax.clip.weights_maps import hf_flax_map, hf_map, open_clip_map
from fsclip_jax.errors import UserError


@dataclass(frozen=True)
class WeightsSource:
    """A CLIP on disk: shapes, weights and where they go, pictures to pixels, prompts to ids."""

    config: ClipConfig
    entries: tuple[Entry, ...] = field(repr=False)
    tensors: dict[str, np.ndarray] = field(repr=False)
    weights: Path
    sha256: str
    preprocess: Preprocess
    tokenizer: Tokenizer


def read_source(path: Path) -> WeightsSource:
    """Read a model folder, in Hugging Face or open_clip layout, or a single weights file.

    A single file of OpenAI's release needs nothing else. Any other one is read with the
    config, the preprocessing and the tokenizer that lie beside it.

    Args:
        path: an existing folder or file.

    Returns:
        The CLIP.

    Raises:
        UserError: something is missing, broken or of another model.
    """
    source = _read_folder(path) if path.is_dir() else _read_file(path)
    size, wanted = source.preprocess.size, source.config.vision.image_size
    if size != wanted:
        raise UserError(
            f"the preprocessing in {path} crops to {size} pixels, the image tower takes {wanted}; "
            "use the files of one model"
        )
    return source


def _read_folder(folder: Path) -> WeightsSource:
    names = [path.name for path in folder.iterdir() if path.is_file()]
    chosen = choose_weights(names, layouts_of(folder))
    if chosen is None:
        raise UserError(_what_is_missing(folder, names))
    read = _hf_source if chosen.layout == "hf" else _open_clip_source
    return read(folder, folder / chosen.name, read_tensors(folder / chosen.name))


def _what_is_missing(folder: Path, names: list[str]) -> str:
    layouts = layouts_of(folder)
    if layouts:
        wanted = " or ".join(weights.name for weights in PREFERENCE if weights.layout in layouts)
        config = HF_CONFIG if "hf" in layouts else OPEN_CLIP_CONFIG
        return f"{folder} has {config} but no weights; wanted is {wanted}"
    if HF_CONFIG in names:
        hf_config(read_json(folder / HF_CONFIG))  # says what else it describes
        return f"{folder / HF_CONFIG} describes no CLIP; take the one that belongs to the weights"
    found = [name for name in names if Path(name).suffix in WEIGHTS]
    hint = f"; or give one file, such as {folder / found[0]}" if found else ""
    return (
        f"{folder} holds no CLIP; wanted are {HF_CONFIG} with model.safetensors, or "
        f"{OPEN_CLIP_CONFIG} with open_clip_model.safetensors{hint}"
    )


def _read_file(path: Path) -> WeightsSource:
    tensors, folder = read_tensors(path), path.parent
    if is_open_clip_keys(tensors):
        if any(mark in tensors for mark in MARKS) or sha256_of([path]) in SUMS.values():
            return _openai_source(path, tensors)
        if (folder / OPEN_CLIP_CONFIG).is_file():
            return _open_clip_source(folder, path, tensors)
        raise UserError(
            f"{path} is not of OpenAI's release and does not say which activation its blocks use; "
            f"put the model's {OPEN_CLIP_CONFIG} beside it"
        )
    if any(key.startswith("vision_model.") for key in tensors):
        if (folder / HF_CONFIG).is_file():
            return _hf_source(folder, path, tensors)
        raise UserError(
            f"{path} does not say how it is to be read; put the model's {HF_CONFIG}, "
            "preprocessor_config.json and tokenizer beside it, or give the folder that has them"
        )
    some = ", ".join(sorted(tensors)[:3])
    raise UserError(
        f"{path} holds no CLIP: its weights are called {some} and so on; accepted are the names of "
        "OpenAI, open_clip and Hugging Face"
    )


def _openai_source(path: Path, tensors: dict[str, np.ndarray]) -> WeightsSource:
    config = shapes_config(tensors, "quick_gelu")
    return WeightsSource(
        config,
        open_clip_map(config),
        {key: array for key, array in tensors.items() if key not in MARKS},
        path,
        sha256_of([path]),
        Preprocess(config.vision.image_size, odd_margin="round"),
        _tokenizer(path.parent, config, bundled=True),
    )


def _hf_source(folder: Path, weights: Path, tensors: dict[str, np.ndarray]) -> WeightsSource:
    values = read_json(folder / HF_CONFIG)
    siglip = values.get("model_type") == "siglip"
    config = siglip_config(values) if siglip else hf_config(values)
    entries: Callable[[ClipConfig], tuple[Entry, ...]] = siglip_map if siglip else hf_map
    if weights.suffix == ".msgpack":
        if siglip:
            raise UserError(f"{weights} is a SigLIP in Flax; only model.safetensors is read of it")
        entries = hf_flax_map
    return WeightsSource(
        config,
        entries(config),
        tensors,
        weights,
        sha256_of(shard_paths(weights)),
        hf_preprocess(_image_values(folder), siglip=siglip),
        _tokenizer(folder, config, bundled=False),
    )


def _open_clip_source(folder: Path, weights: Path, tensors: dict[str, np.ndarray]) -> WeightsSource:
    values = read_json(folder / OPEN_CLIP_CONFIG)
    model = values.get("model_cfg", values)  # a bare model config is one too
    config = open_clip_config(model)
    images = values.get("preprocess_cfg", {})
    # open_clip takes OpenAI's tokenizer unless its config names another.
    bundled = not model.get("text_cfg", {}).get("hf_tokenizer_name")
    return WeightsSource(
        config,
        open_clip_map(config),
        tensors,
        weights,
        sha256_of(shard_paths(weights)),
        open_clip_preprocess(images, config.vision.image_size),
        _tokenizer(folder, config, bundled=bundled),
    )


def _tokenizer(folder: Path, config: ClipConfig, *, bundled: bool) -> Tokenizer:
    text = config.text
    if isinstance(text, SiglipTextConfig):
        return load_siglip_tokenizer(folder, text.context_length)
    beside = any((folder / name).is_file() for name in TOKENIZER_FILES)
    if bundled and not beside and text.vocab_size == VOCAB_SIZE:
        return bundled_tokenizer(text.context_length, text.eos_id)
    return load_tokenizer(folder, text.context_length, text.eos_id)


def _image_values(folder: Path) -> dict:
    path = folder / "preprocessor_config.json"
    if path.is_file():
        return read_json(path)
    # Newer releases of transformers save the settings of all processors in one file.
    path = folder / "processor_config.json"
    if path.is_file() and "image_processor" in (values := read_json(path)):
        return values["image_processor"]
    raise UserError(
        f"{folder} has no preprocessor_config.json, which holds the image mean and standard "
        "deviation; take it from the model's repository"
    )
