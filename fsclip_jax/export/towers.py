"""Towers that were trained on a folder of pictures: merged, or the matrices alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.clip_lora import ClipLora
from fsclip_jax.clip.families import family_of, layout_of
from fsclip_jax.clip.family import LayoutName
from fsclip_jax.clip.files import write_safetensors
from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.clip.lora import ADAPTED, Lora, merge_lora
from fsclip_jax.clip.save import save_clip
from fsclip_jax.data.folder import open_folder
from fsclip_jax.data.source import ImageSource
from fsclip_jax.durable import new_folder, write_file
from fsclip_jax.episodes.task import Task
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.pictures import Pictures, read_pixels, towers_of, trainable
from fsclip_jax.features.extract import ExtractSettings, prompts_of
from fsclip_jax.features.identity import DEFAULT_BACKBONE
from fsclip_jax.fitting.card import Origin, card_of
from fsclip_jax.fitting.engine import fit_key, process_engine
from fsclip_jax.prediction.config import FolderFit
from fsclip_jax.prediction.support import spread_rows
from fsclip_jax.report.card import write_card

VIEWS = 4
"""Of each picture: the centre crop and three augmented ones, as evaluations have them."""

Form = Literal["merged", "peft"]

_MERGED = """A model folder like any other: `fsclip predict --backbone DIR --method zero_shot`, and
what is in Hugging Face's layout by `transformers.CLIPModel.from_pretrained("DIR")`. Classes are
told apart by the prompts that it was trained with:

"""
_PEFT = """`adapter_model.safetensors` has the names that peft gives on `transformers.CLIPModel`:
`peft.PeftModel.from_pretrained(model, "DIR")`. Of a ResNet they are open_clip's, where peft cannot
put them. The scaling is `lora_alpha / sqrt(r)` (`use_rslora`). Classes are told apart by the
prompts that they were trained with:

"""


class Trained(NamedTuple):
    """What was trained: the matrices by their paths in the whole CLIP, and what they are for."""

    adapter: ClipLora
    clip: Backbone
    lora: Lora
    prompts: tuple[str, ...]


def export_towers(support: Path, how: FolderFit, form: Form, out: Path, command: str) -> list[str]:
    """Train the towers on a folder of labelled pictures and write them; return the file names.

    ``merged`` is the whole model in Hugging Face's layout, or in open_clip's where the former has
    none; ``peft`` the matrices alone, in float32.

    Raises:
        UserError: the folder or a setting is not as expected, or the files cannot be written.
    """
    trained = train_on(open_folder(support), how)
    adapter, clip = trained.adapter, trained.clip
    prompts = "\n".join(f"- {prompt}" for prompt in trained.prompts)
    meta = {"backbone": clip.id, "backbone_sha256": clip.sha256}
    card = card_of(
        Origin(adapter, {}, meta, command),
        data=[f"folder:{support}"],
        title=f"{clip.id} with low-rank matrices for {len(trained.prompts)} classes",
        purpose="A CLIP whose attention was trained on a few labelled pictures (CLIP-LoRA)"
        + (", merged." if form == "merged" else ": the matrices alone."),
        use=(_MERGED if form == "merged" else _PEFT) + prompts,
    )
    with new_folder(out) as folder:
        if form == "merged":
            state = merge_lora(clip.state, trained.lora, adapter.gain)
            layout, tokenizer = layout_name(clip), clip.reader()
            save_clip(layout, folder, clip.config, state, clip.preprocess, tokenizer)
        else:
            write_safetensors(
                folder / "adapter_model.safetensors", peft_tensors(trained), "float32"
            )
            config = json.dumps(peft_config(trained), indent=2) + "\n"
            write_file(folder / "adapter_config.json", config.encode())
        return write_card(folder, card)


def train_on(source: ImageSource, how: FolderFit, adapter: ClipLora | None = None) -> Trained:
    """Train the towers of a CLIP on all pictures of a source, or on ``how.shots`` of a class."""
    if how.checkpoint is not None:
        raise UserError("--checkpoint does not go with clip_lora, which starts anew: leave it out")
    clip, adapter = load_clip(how.backbone or DEFAULT_BACKBONE), adapter or ClipLora()
    if reason := trainable(clip):
        raise UserError(f"{reason}; give another --backbone")
    settings = ExtractSettings(templates=how.templates, prompt_file=how.prompt_file)
    prompts = tuple(texts[0] for texts in prompts_of(source, clip, settings).each)
    pictures = Pictures(source, clip, np.arange(len(source)), towers_of(clip, prompts))
    sizes = np.bincount(source.labels, minlength=len(prompts))
    rows, kept = spread_rows(sizes, VIEWS * 3 * clip.image_size**2, how.shots)
    rows = np.where(kept, np.argsort(source.labels, kind="stable")[rows], -1)
    views = read_pixels(pictures, rows, VIEWS)
    task = Task(
        support=jnp.asarray(views[:, :, 0]),
        support_mask=jnp.asarray(kept),
        text=jnp.zeros((len(prompts), clip.embed_dim)),
        logit_scale=jnp.float32(clip.logit_scale),
        views=jnp.asarray(views),
        towers=pictures.towers,
    )
    params = adapter.init(jax.random.key(0), clip.embed_dim)
    descent, _ = process_engine().run(("train", adapter), adapter.train, params, task, fit_key(0))
    lora = {
        f"{ours}.{path}": each
        for ours, theirs in (("vision", "image"), ("text", "text"))
        for path, each in descent.params[theirs].items()
    }
    return Trained(adapter, clip, lora, prompts)


def layout_name(clip: Backbone) -> LayoutName:
    """Return the layout that a CLIP is written in: Hugging Face's, where it has one."""
    return "hf" if "hf" in family_of(clip.config).layouts else "open_clip"


def peft_tensors(trained: Trained) -> Mapping[str, np.ndarray]:
    """Name the matrices as peft does: by the module that they stand beside."""
    entries = layout_of(trained.clip.config, layout_name(trained.clip)).entries
    keys = {entry.path: entry.key for entry in entries(trained.clip.config)}
    found = {}
    for path, each in trained.lora.items():
        *_, name = path.split(".")
        module = keys[f"{path}.kernel"].removesuffix(".weight").replace("in_proj_weight", name)
        for part, matrix in each.items():
            found[f"base_model.model.{module}.lora_{part}.weight"] = np.asarray(matrix)
    return found


def peft_config(trained: Trained) -> dict[str, Any]:
    """Say what peft has to know of the matrices."""
    adapter = trained.adapter
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": trained.clip.id,
        "r": adapter.rank,
        "lora_alpha": int(adapter.alpha) if adapter.alpha == int(adapter.alpha) else adapter.alpha,
        "lora_dropout": adapter.dropout,
        "use_rslora": True,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": list(ADAPTED),
    }
