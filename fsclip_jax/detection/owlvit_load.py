"""Read an OWL-ViT from a folder in the layout of transformers."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flax import nnx

from fsclip_jax.clip.clip_vit import (
    HF_TEXT,
    HF_VISION,
    LARGEST_ID,
    ClipVitConfig,
    clip_shapes,
    hf_map,
)
from fsclip_jax.clip.config_fields import square_side
from fsclip_jax.clip.files import read_json, read_tensors, sha256_of, shard_paths
from fsclip_jax.clip.layout_hf import hf_preprocess, image_values, tower_fields
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.tokenizer import Tokenizer, load_tokenizer
from fsclip_jax.clip.weights import Entry, fill_state, require_backed
from fsclip_jax.clip.weights_maps import IGNORABLE, linear_entries, norm_entries
from fsclip_jax.detection.owlvit import abstract_owlvit
from fsclip_jax.errors import UserError
from fsclip_jax.typing import Params

_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")

# What transformers takes for fields that are left out, where it is not as with a CLIP.
_VISION = HF_VISION | {"image_size": 768}
_TEXT = HF_TEXT | {"max_position_embeddings": 16}


@dataclass(frozen=True)
class Detector:
    """An OWL-ViT with all that turns pictures and prompts into detections."""

    id: str
    """The folder it was loaded from."""
    sha256: str
    """Sum of the weights file."""
    config: ClipVitConfig
    """Shapes of the towers."""
    graphdef: nnx.GraphDef = field(repr=False)
    """Static part of the model."""
    state: Params = field(repr=False)
    """Weights, float32."""
    preprocess: Preprocess
    """Pictures to pixels."""
    tokenizer: Tokenizer
    """Prompts to token ids."""


def owlvit_config(values: Mapping[str, Any]) -> ClipVitConfig:
    """Read the content of an OWL-ViT's ``config.json``.

    Raises:
        UserError: the config is of another model, or of shapes that are not built here.

    Example:
        >>> owlvit_config({"model_type": "owlvit"}).vision.grid
        24
    """
    kind = values.get("model_type")
    if kind != "owlvit":
        raise UserError(
            f"the config describes a {kind!r} model; wanted is 'owlvit', such as "
            "google/owlvit-base-patch32"
        )
    vision, text = tower_fields(values, "vision", _VISION), tower_fields(values, "text", _TEXT)
    dim = values.get("projection_dim", 512)
    if dim != text["hidden_size"]:
        raise UserError(
            f"the config projects texts to {dim} and regions to {text['hidden_size']} values; "
            "an OWL-ViT compares the two, so they must be equal"
        )
    # Whatever end-of-text id the config names, an OWL-ViT reads at the largest one.
    return clip_shapes(values, vision, text | {"eos_token_id": LARGEST_ID})


def owlvit_preprocess(values: Mapping[str, Any]) -> Preprocess:
    """Read the content of an OWL-ViT's ``preprocessor_config.json``.

    Both edges are resized to one size, whatever the picture's proportions.

    Raises:
        UserError: it asks for another one.

    Example:
        >>> owlvit_preprocess({"size": [768, 768]}).fit
        'squash'
    """
    side = square_side(values.get("size", 768), "height", "width")
    given = {name: value for name, value in values.items() if name not in ("size", "rescale")}
    if "rescale" in values:  # what early files call it
        given["do_rescale"] = values["rescale"]
    size = {"height": side, "width": side}
    return hf_preprocess({**given, "size": size, "do_center_crop": False})


def owlvit_map(config: ClipVitConfig) -> tuple[Entry, ...]:
    """Map of ``OwlViTForObjectDetection``, as in ``model.safetensors``, one entry a leaf.

    The towers are named as in ``CLIPModel``, one misspelt norm excepted.
    """
    towers = [
        replace(
            entry,
            path=f"clip.{entry.path}",
            key=f"owlvit.{entry.key.replace('pre_layrnorm', 'pre_layernorm')}",
        )
        for entry in hf_map(config)
    ]
    heads = [
        *norm_entries("heads.norm", "layer_norm"),
        *linear_entries("heads.class_head.embed", "class_head.dense0"),
        *linear_entries("heads.class_head.shift", "class_head.logit_shift"),
        *linear_entries("heads.class_head.scale", "class_head.logit_scale"),
    ]
    for i in range(3):
        heads += linear_entries(f"heads.box_head.dense{i}", f"box_head.dense{i}")
    return (*towers, *heads)


def load_owlvit(folder: Path) -> Detector:
    """Load an OWL-ViT with float32 weights.

    The folder holds ``config.json``, ``model.safetensors``, ``preprocessor_config.json`` and the
    tokenizer, as google/owlvit-base-patch32 does.

    Raises:
        UserError: a file is missing, broken or of another model.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give one that holds an OWL-ViT")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json; give a folder of an OWL-ViT")
    config = owlvit_config(read_json(folder / "config.json"))
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise UserError(f"{folder} has no weights; wanted is {' or '.join(_WEIGHTS)}")
    tensors = read_tensors(weights)
    require_backed(config, tensors, weights)
    graphdef, abstract = abstract_owlvit(config)
    state = fill_state(
        abstract,
        tensors,
        owlvit_map(config),
        ignorable=(*IGNORABLE, "box_bias"),
        source=str(weights),
    )
    preprocess = owlvit_preprocess(image_values(folder))
    if preprocess.size != config.vision.image_size:
        raise UserError(
            f"the preprocessing in {folder} makes {preprocess.size} pixels, the image tower takes "
            f"{config.vision.image_size}; use the files of one model"
        )
    return Detector(
        id=str(folder),
        sha256=sha256_of(shard_paths(weights)),
        config=config,
        graphdef=graphdef,
        state=state,
        preprocess=preprocess,
        tokenizer=replace(
            load_tokenizer(folder, config.text.context_length), vocab_size=config.text.vocab_size
        ),
    )
