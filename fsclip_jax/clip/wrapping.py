"""Take weights out of what training wraps around them: prefixes, and a text side of its own."""

from collections.abc import Mapping, Sequence

import numpy as np

from fsclip_jax.errors import UserError, some

ANCHORS = ("visual.conv1.", "vision_model.embeddings.")
"""What some name in every CLIP's weights begins with."""


def unwrap(
    tensors: Mapping[str, np.ndarray], anchors: Sequence[str] = ANCHORS
) -> dict[str, np.ndarray]:
    """Drop what all names have before those that are known, and name a text side as OpenAI does.

    Such prefixes are ``module.`` (several devices), ``_orig_mod.`` (compiled) and ``model.`` (a
    training loop), in any order and depth.

    Raises:
        UserError: the weights are there more than once, under several prefixes.

    Example:
        >>> list(unwrap({"module.model.visual.conv1.weight": np.zeros(1)}))
        ['visual.conv1.weight']
    """
    places = ((key, f".{key}".find(f".{anchor}")) for key in tensors for anchor in anchors)
    prefixes = sorted({key[:at] for key, at in places if at >= 0})
    if len(prefixes) > 1:
        raise UserError(
            f"holds such weights more than once, under {some(prefixes)}; save one alone"
        )
    prefix = prefixes[0] if prefixes else ""
    named = {key.removeprefix(prefix): array for key, array in tensors.items()}
    if len(named) < len(tensors):  # one name with the prefix and without it
        return dict(tensors)
    if "text.token_embedding.weight" in named:  # open_clip's CustomTextCLIP
        named = {key.removeprefix("text."): array for key, array in named.items()}
    return named
