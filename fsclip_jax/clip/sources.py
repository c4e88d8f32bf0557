"""Read all that makes a CLIP out of a model folder or a single weights file."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.families import family_of, layout_of, read_config
from fsclip_jax.clip.family import LayoutName
from fsclip_jax.clip.files import is_weights, read_json, read_tensors, sha256_of, shard_paths
from fsclip_jax.clip.layout_hf import hf_preprocess, image_values
from fsclip_jax.clip.layout_open_clip import open_clip_preprocess
from fsclip_jax.clip.layout_openai import MARKS, SUMS, is_open_clip_keys, shapes_values
from fsclip_jax.clip.layouts import (
    HF_CONFIG,
    OPEN_CLIP_CONFIG,
    PREFERENCE,
    choose_weights,
    layouts_of,
)
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.tokenizer import CLEANINGS, Tokenizer
from fsclip_jax.clip.weights import Entry, require_backed
from fsclip_jax.clip.weights_maps import flax_entry
from fsclip_jax.clip.wrapping import Unwrapped, unwrap
from fsclip_jax.errors import UserError, some


@dataclass(frozen=True)
class WeightsSource:
    """A CLIP on disk: shapes, weights and where they go, pictures to pixels, prompts to ids."""

    config: ClipConfig
    entries: tuple[Entry, ...] = field(repr=False)
    tensors: dict[str, np.ndarray] = field(repr=False)
    weights: Path
    sha256: str
    preprocess: Preprocess
    tokenizer: Tokenizer | None
    note: str
    """What was left out of the file; empty if nothing was."""


def read_source(path: Path) -> WeightsSource:
    """Read a model folder, in Hugging Face or open_clip layout, or a single weights file.

    A single file of OpenAI's release needs nothing else. Any other one is read with the
    config, the preprocessing and the tokenizer that lie beside it.

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
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    layouts = layouts_of(folder)
    chosen = choose_weights(names, layouts)
    if chosen is None:
        found = [name for name in names if is_weights(folder / name)]
        if len(found) != 1 or (HF_CONFIG in names and not layouts):
            raise UserError(_what_is_missing(folder, names, found))
        return _read_file(folder / found[0])  # one file, whatever it is called
    read = _hf_source if chosen.layout == "hf" else _open_clip_source
    return read(folder, folder / chosen.name, _read_clip(folder / chosen.name))


def _read_clip(path: Path) -> Unwrapped:
    return unwrap(read_tensors(path), path)


def _what_is_missing(folder: Path, names: list[str], found: list[str]) -> str:
    layouts = layouts_of(folder)
    if len(found) > 1:
        return f"{folder} holds several files of weights, {some(found)}; give one of them"
    if layouts:
        wanted = " or ".join(weights.name for weights in PREFERENCE if weights.layout in layouts)
        config = HF_CONFIG if "hf" in layouts else OPEN_CLIP_CONFIG
        return f"{folder} has {config} but no weights; wanted is {wanted}"
    if HF_CONFIG in names:
        read_config("hf", read_json(folder / HF_CONFIG))  # says what else it describes
        return f"{folder / HF_CONFIG} describes no CLIP; take the one that belongs to the weights"
    return (
        f"{folder} holds no CLIP; wanted are {HF_CONFIG} with model.safetensors, or "
        f"{OPEN_CLIP_CONFIG} with open_clip_model.safetensors"
    )


def _read_file(path: Path) -> WeightsSource:
    held, folder = _read_clip(path), path.parent
    tensors = held.tensors
    if is_open_clip_keys(tensors):
        if any(mark in tensors for mark in MARKS) or sha256_of([path]) in SUMS.values():
            return _openai_source(path, held)
        if (folder / OPEN_CLIP_CONFIG).is_file():
            return _open_clip_source(folder, path, held)
        raise UserError(
            f"{path} is not of OpenAI's release and does not say which activation its blocks use; "
            f"put the model's {OPEN_CLIP_CONFIG} beside it"
        )
    is_hf = any(key.startswith("vision_model.") for key in tensors)
    if "hf" in layouts_of(folder) or (is_hf and (folder / HF_CONFIG).is_file()):
        return _hf_source(folder, path, held)
    if is_hf:
        raise UserError(
            f"{path} does not say how it is to be read; put the model's {HF_CONFIG}, "
            "preprocessor_config.json and tokenizer beside it, or give the folder that has them"
        )
    raise UserError(
        f"{path} holds no CLIP: its weights are called {some(sorted(tensors))}; accepted are the "
        "names of OpenAI, open_clip and Hugging Face; give the whole CLIP, or convert the file"
    )


def _openai_source(path: Path, held: Unwrapped) -> WeightsSource:
    config = read_config("open_clip", shapes_values(held.tensors))
    tensors = {key: array for key, array in held.tensors.items() if key not in MARKS}
    preprocess = Preprocess(config.vision.image_size, odd_margin="round")
    return _source(
        "open_clip", config, path.parent, path, held._replace(tensors=tensors), preprocess, "lower"
    )


def _hf_source(folder: Path, weights: Path, held: Unwrapped) -> WeightsSource:
    config = read_config("hf", read_json(folder / HF_CONFIG))
    family = family_of(config)
    preprocess = hf_preprocess(image_values(folder), family.preprocess)
    if family.fit_positions is not None:
        config = replace(config, vision=replace(config.vision, image_size=preprocess.size))
    return _source("hf", config, folder, weights, held, preprocess)


def _open_clip_source(folder: Path, weights: Path, held: Unwrapped) -> WeightsSource:
    values = read_json(folder / OPEN_CLIP_CONFIG)
    model = values.get("model_cfg", values)  # a bare model config is one too
    if not isinstance(model, dict):
        raise UserError(f"{folder / OPEN_CLIP_CONFIG}: model_cfg is no object")
    config = read_config("open_clip", model)
    preprocess = open_clip_preprocess(values.get("preprocess_cfg", {}), config.vision.image_size)
    # open_clip takes OpenAI's tokenizer unless its config names another.
    text = model.get("text_cfg", {})
    clean = (text.get("tokenizer_kwargs") or {}).get("clean")
    clean = clean or ("whitespace" if text.get("hf_tokenizer_name") else "lower")
    return _source("open_clip", config, folder, weights, held, preprocess, clean)


def _source(
    name: LayoutName,
    config: ClipConfig,
    folder: Path,
    weights: Path,
    held: Unwrapped,
    preprocess: Preprocess,
    clean: str = "",
) -> WeightsSource:
    require_backed(config, held.tensors, weights)
    layout, tensors = layout_of(config, name), held.tensors
    entries = tuple(layout.entries(config))
    if weights.suffix == ".msgpack":
        if not layout.flax:
            kind = family_of(config).name
            raise UserError(f"{weights} is {kind} in Flax; only model.safetensors is read of it")
        entries = tuple(flax_entry(entry) for entry in entries)
    else:
        tensors = layout.tidy(tensors)
    text, tokenizer = family_of(config).text, None
    if text is not None and config.text is not None:
        tokenizer = text.tokenizer(folder, config.text, clean == "lower")
        tokenizer = replace(tokenizer, vocab_size=config.text.vocab_size)
    if tokenizer is not None and clean:
        tokenizer = replace(tokenizer, clean=CLEANINGS[clean])
    sha256 = sha256_of(shard_paths(weights))
    found = (config, entries, tensors, weights, sha256, preprocess, tokenizer)
    return WeightsSource(*found, held.note)
