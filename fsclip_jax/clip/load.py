"""Load a frozen CLIP: bundled, from a folder or a file, or from the Hugging Face hub."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.families import family_of
from fsclip_jax.clip.files import WEIGHTS
from fsclip_jax.clip.folding import fold_norms
from fsclip_jax.clip.hub import fetch
from fsclip_jax.clip.model import abstract_clip
from fsclip_jax.clip.positions import resize_positions
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.published import KNOWN, known_as
from fsclip_jax.clip.scale import check_scale, doubt_scale
from fsclip_jax.clip.sources import WeightsSource, read_source
from fsclip_jax.clip.tokenizer import Tokenizer
from fsclip_jax.clip.weights import fill_state, leaf_paths
from fsclip_jax.clip.weights_maps import IGNORABLE
from fsclip_jax.errors import UserError, suggestion, tell
from fsclip_jax.hub import parse_id
from fsclip_jax.typing import Params

_ACCEPTED = (
    "accepted are 'mini', a Hugging Face id such as openai/clip-vit-base-patch32 (`fsclip "
    "backbones` lists some), a folder in Hugging Face or open_clip layout, or a weights file"
)


@dataclass(frozen=True)
class Backbone:
    """A frozen CLIP with all that turns pictures and prompts into features."""

    id: str
    """The spec it was loaded by."""
    sha256: str
    """Sum of the weights file."""
    config: ClipConfig
    """Shapes of the towers."""
    graphdef: nnx.GraphDef = field(repr=False)
    """Static part of the model, as ``encode_image`` and ``encode_text`` take it."""
    state: Params = field(repr=False)
    """Weights, float32."""
    preprocess: Preprocess
    """Pictures to pixels."""
    tokenizer: Tokenizer | None
    """Prompts to token ids; None for an image tower without text."""
    logit_scale: float
    """Inverse temperature, the exponential of the learned parameter; without text 1 / 0.07."""
    logit_bias: float = 0.0
    """Added to SigLIP's scaled cosines before its sigmoid; a softmax does not feel it."""

    @property
    def embed_dim(self) -> int:
        """Width of the joint embedding."""
        return self.config.embed_dim

    @property
    def image_size(self) -> int:
        """Side of the square that the image tower takes, in pixels."""
        return self.config.vision.image_size

    @property
    def context_length(self) -> int:
        """Tokens of a prompt; a ``UserError`` without a text tower."""
        return self.reader().context_length

    def reader(self) -> Tokenizer:
        """Return the tokenizer, for who needs the text tower.

        Raises:
            UserError: there is none.
        """
        if self.tokenizer is None:
            raise UserError(
                f"{self.id} is an image tower without text, which reads no class names; give a "
                "whole CLIP, such as --backbone openai/clip-vit-base-patch32"
            )
        return self.tokenizer


def load_clip(spec: str) -> Backbone:
    """Load a frozen CLIP.

    Weights are float32 on the default device, batch norms folded into the convolutions.

    Args:
        spec: ``mini`` (bundled); a local folder in Hugging Face or open_clip layout; a single
            weights file; or the id of a model on the Hugging Face hub, ``OWNER/NAME`` or
            ``OWNER/NAME@REVISION``, which is downloaded once.

    Raises:
        UserError: there is no such model, it is no CLIP, its files do not fit each other, or
            they hold anything but tensors.
    """
    source = read_source(find_model(spec))
    graphdef, abstract = abstract_clip(source.config)
    state = fill_state(
        abstract,
        _fit_positions(source, leaf_paths(abstract)),
        source.entries,
        ignorable=(*IGNORABLE, "logit_bias"),  # a softmax does not feel it
        source=str(source.weights),
    )
    tell([source.note] if source.note else [])
    config, graphdef, state = fold_norms(source.config, graphdef, state)
    leaves = leaf_paths(state)
    learned = float(leaves.get("logit_scale", config.logit_scale_init))
    scale = check_scale(math.exp(min(learned, 700.0)), str(source.weights))
    if why := doubt_scale(scale):
        tell([f"{source.weights}: {why}"])
    bias = float(leaves.get("logit_bias", 0.0))
    if not math.isfinite(bias):
        raise UserError(f"{source.weights}: the logit bias is {bias}; restore the file")
    return Backbone(
        id=spec,
        sha256=source.sha256,
        config=config,
        graphdef=graphdef,
        state=state,
        preprocess=source.preprocess,
        tokenizer=source.tokenizer,
        logit_scale=scale,
        logit_bias=float(bias),
    )


def _fit_positions(source: WeightsSource, leaves: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Resize the image tower's positions where the file has another grid than the config."""
    key = next((e.key for e in source.entries if e.path == "vision.position_embedding"), "")
    stored, vision = source.tensors.get(key, np.zeros(())), source.config.vision
    if stored.ndim < 2 or stored.size != math.prod(stored.shape[-2:]):
        return source.tensors
    table, fit = stored.reshape(stored.shape[-2:]), family_of(source.config).fit_positions
    extra = len(leaves["vision.position_embedding"]) - vision.grid**2
    resized = fit(table, vision) if fit else resize_positions(table, vision.grid, extra)
    if resized is None:
        return source.tensors
    if not fit:
        given, grid = math.isqrt(len(table)), vision.grid
        sides = f"{given} x {given} patches were resized to the config's {grid} x {grid}"
        tell([f"{source.weights}: its positions of {sides}, as open_clip does"])
    return {**source.tensors, key: resized.reshape(*stored.shape[:-2], *resized.shape)}


def find_model(spec: str) -> Path:
    """Find the folder or file of a model, downloading it when the spec is an id of the hub.

    Raises:
        UserError: there is no such model.
    """
    if spec == "mini":
        folder = Path(str(resources.files("fsclip_jax") / "assets" / "mini"))
        if not folder.is_dir():
            raise UserError("the bundled mini CLIP is not installed; install fsclip-jax again")
        return folder
    path = Path(spec).expanduser()
    if path.is_dir() or path.is_file():
        return path
    if path.exists():
        raise UserError(
            f"{spec} is a pipe, a socket or a device, which is never opened; {_ACCEPTED}"
        )
    if usual := known_as(spec):
        raise UserError(f"there is no backbone {spec!r}; that model is called {usual}")
    hub_id = parse_id(spec)
    if hub_id is None or path.suffix in WEIGHTS:
        near = suggestion(spec, ["mini", *(model.id for model in KNOWN)])
        raise UserError(f"there is no backbone {spec!r}; {_ACCEPTED}{near}")
    near = suggestion(hub_id.name, [model.id for model in KNOWN if model.id != hub_id.name])
    return fetch(hub_id, f"{_ACCEPTED}{near}")
