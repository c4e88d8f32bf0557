"""Fuzzed readers of model folders: the tokenizer alone, and all that makes a CLIP."""

import dataclasses
import functools
import json
from pathlib import Path

import clip_cases
import numpy as np
from fuzz_watch import Target, kept_seeds, spoilt_folder

LENGTH = 10
_LETTERS = "!abcdefghij"
_MERGES = [("a", "b"), ("c", "d</w>")]


def _backend():
    """CLIP's own tokenizer class over 64 tokens."""
    from transformers import AutoTokenizer, CLIPTokenizer

    del AutoTokenizer  # imported before anybody watches: the import tries where it may write

    tokens = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS), "ab", "cd</w>"]
    tokens += [f"<extra{i}>" for i in range(62 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=_MERGES)


def _tokenizer_seeds(folder: Path) -> list[bytes]:
    """``tokenizer.json`` with its config; vocabulary and merges; ``tokenizer.json`` alone."""
    from fsclip_jax.clip.tokenizer import wrap_tokenizer

    new, old, bare = (folder / "honest" / kind for kind in ("hf", "old", "open_clip"))
    tokenizer = wrap_tokenizer(_backend(), LENGTH)
    for place in (new, bare):
        tokenizer.save(place)
    config = clip_cases.HF_CASES["patch32_mixed_one_head"]
    (new / "config.json").write_text(json.dumps(config))
    (bare / "tokenizer_config.json").unlink()
    old.mkdir()
    told = json.loads((new / "tokenizer_config.json").read_text())
    model = json.loads((new / "tokenizer.json").read_text())["model"]
    (old / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "".join(f"{a} {b}\n" for a, b in _MERGES)
    (old / "merges.txt").write_text("#version: 0.2\n" + merges)
    (old / "tokenizer_config.json").write_text(json.dumps(told))
    return kept_seeds(folder)


def _read_tokenizer(folder: Path, data: bytes) -> None:
    """Load it as CLIP's and as SigLIP's; what was taken makes ids that a tower can look up."""
    from fsclip_jax.clip.tokenizer import load_tokenizer

    place, _ = spoilt_folder(folder, data)
    tokenizer = load_tokenizer(place, LENGTH)
    rows = tokenizer(["a cab", "abc" * 20, "", "dög \U0001f600"])
    assert rows.shape == (4, LENGTH)
    assert rows.dtype == np.int32
    tokenizer.too_long(["a cab"])


def _tower(**rest):
    shape = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1}
    return {**shape, "intermediate_size": 16, **rest}


_TEXT = _tower(vocab_size=64, max_position_embeddings=LENGTH, eos_token_id=63, bos_token_id=62)
_IMAGE = _tower(image_size=8, patch_size=4)
_CONFIGS = {
    "vit": ("hf", {"model_type": "clip", "projection_dim": 6}),
    "shards": ("hf", {"model_type": "clip", "projection_dim": 6}),
    "siglip": ("hf", {"model_type": "siglip"}),
    "open_clip": ("open_clip", {"embed_dim": 6}),
}


def _model_seeds(folder: Path) -> list[bytes]:
    """Tiny CLIPs: a ViT and a SigLIP of Hugging Face, the first in shards too; one of open_clip."""
    from fsclip_jax.clip.families import read_config
    from fsclip_jax.clip.model import init_clip
    from fsclip_jax.clip.preprocess import Preprocess
    from fsclip_jax.clip.save import save_clip
    from fsclip_jax.clip.tokenizer import wrap_tokenizer

    tokenizer = wrap_tokenizer(_backend(), LENGTH)
    for kind, (layout, values) in _CONFIGS.items():
        towers = {"text_config": _TEXT, "vision_config": _IMAGE}
        if layout == "open_clip":
            text = {"context_length": LENGTH, "vocab_size": 64, "width": 8, "heads": 2, "layers": 1}
            image = {"image_size": 8, "patch_size": 4, "width": 8, "layers": 1, "head_width": 4}
            towers = {"text_cfg": text, "vision_cfg": image}
        config = read_config(layout, values | towers)
        _, state = init_clip(config, 0)
        pictures = Preprocess(config.vision.image_size)
        place = folder / "honest" / kind
        save_clip(layout, place, config, state, pictures, tokenizer, dtype="float16")
    _into_shards(folder / "honest" / "shards" / "model.safetensors")
    return kept_seeds(folder)


def _into_shards(weights: Path) -> None:
    from safetensors.numpy import load_file, save_file

    tensors = load_file(weights)
    weights.unlink()
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    place = {key: names[number % 2] for number, key in enumerate(sorted(tensors))}
    for name in names:
        save_file({k: v for k, v in tensors.items() if place[k] == name}, weights.with_name(name))
    index = json.dumps({"metadata": {}, "weight_map": place})
    weights.with_name("model.safetensors.index.json").write_text(index)


@functools.cache
def _cached_shapes():
    """Trace the towers of one config once: most inputs leave it as it was."""
    from fsclip_jax.clip import load

    load.abstract_clip = functools.lru_cache(maxsize=256)(load.abstract_clip)
    return load


def _read_model(folder: Path, data: bytes) -> None:
    place, _ = spoilt_folder(folder, data)
    backbone = _cached_shapes().load_clip(str(place))
    assert 0 < backbone.logit_scale < np.inf
    assert backbone.tokenizer(["a cab"]).shape == (1, backbone.context_length)
    dataclasses.replace(backbone)


TARGETS = {
    "tokenizer": Target(_tokenizer_seeds, _read_tokenizer),
    "model": Target(_model_seeds, _read_model),
}
