"""Load a frozen CLIP: the bundled one, a local folder, or a model of the Hugging Face hub."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from importlib import resources
from pathlib import Path

from flax import nnx

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.files import (
    PICKLES,
    read_json,
    read_tensors,
    refuse_pickle,
    sha256_of,
    shard_paths,
)
from fsclip_jax.clip.folding import fold_norms
from fsclip_jax.clip.layout_hf import hf_config, hf_preprocess
from fsclip_jax.clip.layout_open_clip import open_clip_config, open_clip_preprocess
from fsclip_jax.clip.model import abstract_clip
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.tokenizer import Tokenizer, load_tokenizer
from fsclip_jax.clip.weights import Entry, fill_state, leaf_paths
from fsclip_jax.clip.weights_maps import IGNORABLE, hf_flax_map, hf_map, open_clip_map
from fsclip_jax.errors import UserError, suggestion
from fsclip_jax.typing import Params

HF_WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "flax_model.msgpack")
"""Weights files of the Hugging Face layout, the preferred ones first."""
OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors",)
"""Weights files of the open_clip layout."""
_SMALL_FILES = ("*.json", "*.txt")
_ACCEPTED = (
    "accepted are 'mini', a Hugging Face id such as openai/clip-vit-base-patch32, or a folder in "
    "Hugging Face or open_clip layout"
)


@dataclass(frozen=True)
class Backbone:
    """A frozen CLIP with all that turns pictures and prompts into features."""

    id: str
    """The spec it was loaded by."""
    sha256: str
    """Sum of the weights file."""
    config: ClipConfig
    """Shapes of both towers."""
    graphdef: nnx.GraphDef = field(repr=False)
    """Static part of the model, as ``encode_image`` and ``encode_text`` take it."""
    state: Params = field(repr=False)
    """Weights, float32."""
    preprocess: Preprocess
    """Pictures to pixels."""
    tokenizer: Tokenizer
    """Prompts to token ids."""
    logit_scale: float
    """Inverse temperature, the exponential of the learned parameter."""

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
        """Tokens of a prompt."""
        return self.config.text.context_length


@dataclass(frozen=True)
class _Files:
    """What a model folder holds: its layout's config, weights, key map and preprocessing."""

    config: ClipConfig
    weights: Path
    entries: Callable[[ClipConfig], tuple[Entry, ...]]
    preprocess: Preprocess


def load_clip(spec: str) -> Backbone:
    """Load a frozen CLIP.

    Args:
        spec: ``mini`` (bundled), a local folder in Hugging Face or open_clip layout, or the id
            of a model on the Hugging Face hub, which is downloaded once.

    Returns:
        The backbone with float32 weights on the default device.

    Raises:
        UserError: there is no such model, it is no CLIP, its files do not fit each other, or
            its weights are only there as a pickle, which is never opened.
    """
    folder = find_folder(spec)
    files = _read_folder(folder)
    graphdef, abstract = abstract_clip(files.config)
    state = fill_state(
        abstract,
        read_tensors(files.weights),
        files.entries(files.config),
        ignorable=IGNORABLE,
        source=str(files.weights),
    )
    config, graphdef, state = fold_norms(files.config, graphdef, state)
    text = config.text
    return Backbone(
        id=spec,
        sha256=sha256_of(shard_paths(files.weights)),
        config=config,
        graphdef=graphdef,
        state=state,
        preprocess=files.preprocess,
        tokenizer=load_tokenizer(folder, text.context_length, getattr(text, "eos_id", None)),
        logit_scale=math.exp(float(leaf_paths(state)["logit_scale"])),
    )


def find_folder(spec: str) -> Path:
    """Find the folder of a model, downloading it when the spec is an id of the hub.

    Args:
        spec: as for ``load_clip``.

    Returns:
        An existing folder.

    Raises:
        UserError: there is no such model.
    """
    if spec == "mini":
        folder = Path(str(resources.files("fsclip_jax") / "assets" / "mini"))
        if not folder.is_dir():
            raise UserError("the bundled mini CLIP is not installed; install fsclip-jax again")
        return folder
    path = Path(spec).expanduser()
    if path.is_dir():
        return path
    refuse_pickle(path)
    if path.is_file():
        raise UserError(f"the backbone {spec!r} is a single file; give the folder that holds it")
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", spec):
        raise UserError(f"there is no backbone {spec!r}; {_ACCEPTED}{suggestion(spec, ['mini'])}")
    return _download(spec)


def _read_folder(folder: Path) -> _Files:
    hf = _first(folder, HF_WEIGHTS)
    if hf and (folder / "config.json").is_file():
        config = hf_config(read_json(folder / "config.json"))
        entries = hf_flax_map if hf.suffix == ".msgpack" else hf_map
        return _fit(_Files(config, hf, entries, hf_preprocess(_hf_image_values(folder))), folder)
    open_clip = _first(folder, OPEN_CLIP_WEIGHTS)
    if open_clip and (folder / "open_clip_config.json").is_file():
        values = read_json(folder / "open_clip_config.json")
        config = open_clip_config(values.get("model_cfg", {}))
        preprocess = open_clip_preprocess(
            values.get("preprocess_cfg", {}), config.vision.image_size
        )
        return _fit(_Files(config, open_clip, open_clip_map, preprocess), folder)
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in PICKLES)
    if pickles:
        raise UserError(
            f"{folder} has weights only as {', '.join(pickles)}, which may hold a pickle and "
            "is not opened; convert them to safetensors first"
        )
    raise UserError(
        f"{folder} holds no CLIP; wanted are config.json with {' or '.join(HF_WEIGHTS)}, or "
        f"open_clip_config.json with {OPEN_CLIP_WEIGHTS[0]}"
    )


def _fit(files: _Files, folder: Path) -> _Files:
    size, wanted = files.preprocess.size, files.config.vision.image_size
    if size != wanted:
        raise UserError(
            f"the preprocessing in {folder} crops to {size} pixels, the image tower takes "
            f"{wanted}; use the files of one model"
        )
    return files


def _hf_image_values(folder: Path) -> dict:
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


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _download(spec: str) -> Path:
    from huggingface_hub import list_repo_files, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        patterns = [*_SMALL_FILES, *_wanted_weights(spec, list_repo_files(spec))]
        return Path(snapshot_download(spec, allow_patterns=patterns))
    except UserError:
        raise
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise UserError(
            f"the Hugging Face hub has no model {spec!r}, or not for you; {_ACCEPTED}"
        ) from error
    except Exception as error:  # offline, a proxy, a full disk: a copy in the cache will do
        try:
            return Path(snapshot_download(spec, local_files_only=True))
        except Exception:
            reason = (str(error).splitlines() or [""])[0] or type(error).__name__
            raise UserError(
                f"{spec!r} is no local folder and cannot be downloaded ({reason}); go online, or "
                f"give a folder that you fetched with: hf download {spec}"
            ) from error


def _wanted_weights(spec: str, names: list[str]) -> list[str]:
    """Choose one of the forms in which a repository has its weights, never a pickle."""
    for name in (*HF_WEIGHTS, *OPEN_CLIP_WEIGHTS):
        if name in names:
            return ["model-*.safetensors"] if name.endswith(".index.json") else [name]
    pickles = [name for name in names if fnmatch(name, "*.bin") or fnmatch(name, "*.pt")]
    raise UserError(
        f"{spec!r} has no safetensors or Flax weights"
        + (f", only {', '.join(pickles)}, which is never opened" if pickles else "")
        + "; convert them, or choose another model"
    )
