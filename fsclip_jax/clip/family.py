"""What a family of CLIPs says of itself: its towers, its files, its prompts.

A family is one file that ends in a ``Family``, and one line in ``families``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from flax import nnx

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.tokenizer import Tokenizer
from fsclip_jax.clip.weights import Entry

LayoutName: TypeAlias = Literal["hf", "open_clip"]
"""Hugging Face's layout of a model folder, or open_clip's."""

Leaves: TypeAlias = dict[str, Any]
"""Weights by their dotted paths."""


Folding: TypeAlias = Callable[[Any, Leaves], tuple[ClipConfig, Leaves]]
"""What is done to weights, from the shapes of the towers."""


@dataclass(frozen=True)
class FileLayout:
    """How the configs and weights of a family look in one layout."""

    kind: str
    """What errors call it; in Hugging Face's layout the config's ``model_type``."""
    read: Callable[[Mapping[str, Any]], ClipConfig] = field(repr=False)
    """From the content of a config file. Raises a ``UserError`` at what is not built here."""
    write: Callable[[Any], dict[str, Any]] = field(repr=False)
    """The inverse. Raises a ``ValueError`` at shapes that the layout cannot say."""
    entries: Callable[[Any], Sequence[Entry]] = field(repr=False)
    """The key map of the weights, from the shapes of the towers."""
    describes: Callable[[Mapping[str, Any]], bool] | None = field(default=None, repr=False)
    """Whether a config file is of this family; None to go by its ``model_type``."""
    tidy: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]] = field(
        default=lambda tensors: tensors, repr=False
    )
    """Names weights as published files do, where the library has other names in memory."""
    flax: bool = False
    """A folder may also hold ``flax_model.msgpack``, with the same keys as Flax calls them."""


@dataclass(frozen=True)
class TextSide:
    """What a family says of its prompts."""

    shapes: type
    """Class of the text tower's shapes."""
    tower: Callable[..., nnx.Module] = field(repr=False)
    """Builds the tower from its shapes and ``rngs``."""
    tokenizer: Callable[[Path, Any, bool], Tokenizer] = field(repr=False)
    """Loads the tokenizer of a model folder for a tower's shapes; the last argument says whether
    OpenAI's bundled one is meant where the folder has none."""
    cut: Callable[[np.ndarray, Any], np.ndarray] = field(default=lambda ids, _: ids, repr=False)
    """Leaves out positions of token ids that no feature depends on, if there are such."""
    no_prompts: str = ""
    """Why no prompts can be learned through the tower, after "MODEL ..."; empty if they can."""


@dataclass(frozen=True)
class Family:
    """A kind of image tower, the text tower beside it, and how files describe the two."""

    name: str
    """What errors call it, with an article."""
    shapes: type
    """Class of the image tower's shapes."""
    tower: Callable[..., nnx.Module] = field(repr=False)
    """Builds the image tower from its shapes and ``rngs``. It has ``with_patches`` besides, and
    says itself how many images it takes at a time (see ``micro_batches``)."""
    text: TextSide | None
    """None for an image tower alone."""
    layouts: Mapping[LayoutName, FileLayout]
    """The layouts that its folders come in."""
    preprocess: Preprocess = field(default=Preprocess(224), repr=False)
    """What a ``preprocessor_config.json`` means where it is silent."""
    fit_positions: Callable[[np.ndarray, Any], np.ndarray | None] | None = field(
        default=None, repr=False
    )
    """Where the tower takes pictures of whatever size the preprocessing makes: resizes the file's
    table of positions to the tower's shapes, or says None where it fits."""
    processor: str = "CLIPImageProcessor"
    """What that file calls the preprocessing."""
    logit_bias: float | None = None
    """Where the bias of a sigmoid loss starts; None without one."""
    fold: Folding = field(default=lambda config, leaves: (config, leaves), repr=False)
    """Folds into the weights what is static once they are frozen."""
    unfold: Folding = field(default=lambda config, leaves: (config, leaves), repr=False)
    """Takes it apart again, for files that have it apart."""
