"""From a pretraining run to a model folder: weights, tokenizer, sources and a model card."""

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from contrastive import ContrastiveConfig, init_contrastive
from name_tokenizer import save_tokenizer
from pretrain import PretrainCheckpoints, mean_weights
from tokenizers import Tokenizer

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.clip.model import encode_image, encode_text
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.save import save_clip
from fsclip_jax.data.registry import open_source
from fsclip_jax.errors import UserError
from fsclip_jax.numerics import l2_normalize

HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation of the preprocessing: pixels in -1..1, as in training."""


def export_mini(
    model: ClipConfig, config: ContrastiveConfig, corpus: Path, workdir: Path, out: Path
) -> dict[str, Any]:
    """Write the running mean of a run's weights as a model folder in open_clip layout.

    Args:
        model: shapes of both towers.
        config: the recipe of the run.
        corpus: what it was trained on; its ``sources.csv`` goes along.
        workdir: of the run.
        out: folder to write.

    Returns:
        The figures of the model card.

    Raises:
        UserError: the run has no checkpoint.
    """
    graphdef, blank = init_contrastive(model, config)
    state = PretrainCheckpoints(workdir / "checkpoints", read_only=True).restore(blank)
    if state is None:
        raise UserError(f"{workdir} holds no checkpoint to export; train there first")
    size = model.vision.image_size
    out.mkdir(parents=True, exist_ok=True)
    save_clip(
        "open_clip",
        out,
        model,
        mean_weights(graphdef, state),
        Preprocess(size, HALF, HALF),
        dtype="float16",
    )
    _name_tokenizer(out / "open_clip_config.json")
    tokenizer = Tokenizer.from_file(str(workdir / "tokenizer.json"))
    save_tokenizer(tokenizer, out, model.text.context_length)
    shutil.copyfile(corpus / "sources.csv", out / "SOURCES.csv")
    backbone = load_clip(str(out.resolve()))  # "mini" alone would mean the bundled one
    report = json.loads((corpus / "report.json").read_text("utf-8"))
    facts = {
        "steps": int(state.step),
        "batch": config.batch,
        "samples": int(state.step) * config.batch,
        "logit_scale": round(backbone.logit_scale, 3),
        "pictures": report["pictures"],
        "near_copies_dropped": report["near copies"],
        **emoji_accuracy(backbone),
    }
    (out / "training.json").write_text(json.dumps(facts, indent=2) + "\n")
    (out / "README.md").write_text(_model_card(facts))
    return facts


def _name_tokenizer(path: Path) -> None:
    # Told no name, open_clip takes its own vocabulary; told any, that of the model's folder.
    values = json.loads(path.read_text("utf-8"))
    values["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = "mini"
    path.write_text(json.dumps(values, indent=2) + "\n")


def emoji_accuracy(backbone: Backbone, chunk: int = 512) -> dict[str, Any]:
    """Zero-shot accuracy on all pictures and all classes of the bundled emoji.

    Args:
        backbone: any CLIP.
        chunk: pictures encoded together.

    Returns:
        ``top1`` and ``top5`` in percent over all renderings, and ``top1_by_family``.
    """
    source = open_source("emoji")
    encode = jax.jit(encode_image, static_argnums=0)
    prompts = [source.templates[0].format(name) for name in source.class_names]
    ids = jnp.asarray(backbone.tokenizer(prompts))
    texts = l2_normalize(encode_text(backbone.graphdef, backbone.state, ids))
    ranks = []
    for start in range(0, len(source), chunk):
        rows = range(start, min(start + chunk, len(source)))
        crops = np.stack([backbone.preprocess.crop(source.load(i)) for i in rows])
        images = encode(backbone.graphdef, backbone.state, backbone.preprocess.normalize(crops))
        logits = np.asarray(l2_normalize(images) @ texts.T)
        right = logits[np.arange(len(crops)), source.labels[rows]]
        ranks.append((logits > right[:, None]).sum(1))
    rank = np.concatenate(ranks)
    families = {
        name: round(100 * float((rank[source.domains == i] < 1).mean()), 2)
        for i, name in enumerate(source.domain_names)
    }
    return {
        "top1": round(100 * float((rank < 1).mean()), 2),
        "top5": round(100 * float((rank < 5).mean()), 2),
        "top1_by_family": families,
    }


def _model_card(facts: dict[str, Any]) -> str:
    pictures = facts["pictures"]
    families = ", ".join(f"{name} {value:.1f}" for name, value in facts["top1_by_family"].items())
    return f"""---
license: apache-2.0
library_name: open_clip
tags: [clip, zero-shot-image-classification, icons, emoji]
---
# Mini CLIP

A CLIP small enough to ship with a package: it knows pictures of 32 pixels and short names of
things. It stands in for a real CLIP in tests, examples and the quick start of fsclip_jax. It is
no model for photographs.

- Image tower: OpenAI's ModifiedResNet, 32 pixels. Text tower: causal transformer, own BPE.
- Layout: open_clip (`open_clip_config.json`, `open_clip_model.safetensors`, float16).
- Prompt: the bare name, such as `red apple`. It was trained on no template.
- Trained from scratch on {facts["samples"]:,} samples ({facts["steps"]:,} steps of
  {facts["batch"]}) with `scripts/mini_clip/pretrain_mini.py`. Inverse temperature as trained:
  {facts["logit_scale"]}.

## Accuracy

Zero-shot, 627 classes, all 6,363 pictures of the bundled emoji benchmark (chance 0.16 %):
**top-1 {facts["top1"]:.1f} %, top-5 {facts["top5"]:.1f} %**. Top-1 by artist family: {families}.

The weights are the running mean at the end of the planned schedule. They were not chosen by this
accuracy.

## Training data

{pictures["color"]:,} multi-colour and {pictures["glyph"]:,} one-colour icons of open sets, each
with its name, and {pictures["emoji"]:,} emoji drawings of concepts that are no class of the
benchmark. `SOURCES.csv` lists every set with its author and licence (MIT, Apache-2.0, CC0, CC-BY,
ISC, OFL, BSD, Unlicense).

No art of a benchmark class is among it: emoji art enters only when it is matched to a concept
outside the benchmark, and {facts["near_copies_dropped"]:,} pictures that resembled a benchmark
rendering were dropped. Names of benchmark classes do occur, as names of icons that somebody else
drew, and as synonyms from emoji short codes.
"""
