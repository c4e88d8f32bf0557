"""Take weights out of what training wraps around them: prefixes, and a text side of its own."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fsclip_jax.errors import UserError, some

ANCHORS = (
    ("embeddings.patch_embeddings.",),
    ("visual.conv1.", "vision_model.embeddings."),
    ("embeddings.patch_embedding.",),
)
"""What some name in all weights begins with, of DINOv2, of CLIPs, of an image tower alone."""

_BESIDE = re.compile(r"(loss|criterion|\w*ema\w*)\.")
"""What a loop keeps beside a model that has no prefix."""


class Unwrapped(NamedTuple):
    """Weights, and a sentence on those beside them that were left out; empty if none were."""

    tensors: dict[str, np.ndarray]
    note: str


def unwrap(
    tensors: Mapping[str, np.ndarray], path: Path, anchors: Sequence[Sequence[str]] = ANCHORS
) -> Unwrapped:
    """Drop what all names have before those that are known, and name a text side as OpenAI does.

    Such prefixes are ``module.`` (several devices), ``_orig_mod.`` (compiled) and ``model.`` (a
    training loop), in any order and depth. Weights without it belong to the loop: an average of
    the model, a loss. They are left out. The ``path`` is for the note and for errors.

    Raises:
        UserError: the weights are there more than once, under several prefixes.

    Example:
        >>> list(unwrap({"module.model.visual.conv1.weight": np.zeros(1)}, Path("a.pt")).tensors)
        ['visual.conv1.weight']
    """
    found = (_prefixes(tensors, group) for group in anchors)
    prefixes = next((names for names in found if names), [""])
    if len(prefixes) > 1:
        own = [name for name in prefixes if not re.search("ema|average", name.lower())]
        if len(own) != 1:
            raise UserError(
                f"{path} holds such weights more than once, under {some(prefixes)}; save one alone"
            )
        prefixes = own
    (prefix,) = prefixes
    beside = [k for k in tensors if not k.startswith(prefix) or (not prefix and _BESIDE.match(k))]
    under = f"the weights under {prefix}" if prefix else "the model's weights"
    note = f"{path}: {under} are read; {len(beside)} beside them are not: {some(beside)}"
    others = set(beside)
    named = {k.removeprefix(prefix): array for k, array in tensors.items() if k not in others}
    if "text.token_embedding.weight" in named:  # open_clip's CustomTextCLIP
        named = {key.removeprefix("text."): array for key, array in named.items()}
    return Unwrapped(named, note if beside else "")


def _prefixes(tensors: Mapping[str, np.ndarray], anchors: Sequence[str]) -> list[str]:
    places = ((key, f".{key}".find(f".{anchor}")) for key in tensors for anchor in anchors)
    return sorted({key[:at] for key, at in places if at >= 0})
