"""Class names as tokens and the text tower, for methods that learn prompts."""

from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fsclip_jax.clip.families import text_side
from fsclip_jax.clip.hub import WANTED
from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.clip.text import FrozenText
from fsclip_jax.clip.tokenizer import Tokenizer
from fsclip_jax.data.templates import BARE
from fsclip_jax.episodes.task import Words
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.hub import find_cached, parse_id

START_WORDS = "a photo of a"
"""What a learned context starts from, as published."""

NEUTRAL = 4
"""Start tokens in its place where the backbone was trained on bare names."""


def find_words(config: EvalConfig, stored: StoredBank) -> tuple[Words | None, str]:
    """Make the words of a bank, if the text tower of its backbone is at hand, else say why not.

    Of images the backbone is the one that encoded them. Of ``bank:DIR`` it is the one that the
    manifest names, if it can be loaded without a network and has the sum that the manifest says.
    """
    known = stored.manifest["backbone"]
    if not config.data.startswith("bank:"):
        return _words_or_reason(load_clip(config.backbone), stored)
    name, wanted = known.get("id"), known.get("sha256")
    if not wanted:
        return None, f"the bank does not say which weights of {name} made it (no sha256)"
    try:
        backbone = load_clip(_local(str(name)))
    except UserError as error:
        return None, f"its backbone is not at hand: {error}"
    if backbone.sha256 != wanted:
        return None, f"the weights of {name} at hand are not those that made the bank"
    return _words_or_reason(backbone, stored)


def _words_or_reason(backbone: Backbone, stored: StoredBank) -> tuple[Words | None, str]:
    if backbone.tokenizer is None:
        return None, f"{backbone.id} is an image tower without text"
    if reason := text_side(backbone.config).no_prompts:
        return None, f"{backbone.id} {reason}; prompts are learned for CLIP alone"
    if backbone.tokenizer([""])[0, 0] == backbone.tokenizer.eos_id:
        return None, f"the tokenizer of {backbone.id} has no start token, before which none stands"
    return make_words(backbone, stored), ""


def _local(spec: str) -> str:
    """Return a spec that loads without a network: a hub's model becomes its downloaded copy."""
    hub_id = None if Path(spec).exists() else parse_id(spec)
    return spec if hub_id is None else str(find_cached(hub_id, WANTED, "fetch it"))


def make_words(backbone: Backbone, stored: StoredBank) -> Words:
    """Tokenize the class names of a bank, without a batch axis, and freeze the text tower.

    A prompt ends with a full stop where the bank's first template does. A context starts from
    "a photo of a"; to a backbone that was trained on bare names these words mean nothing, so
    there it starts from start tokens, which disturb its zero-shot accuracy least.
    """
    tokenizer = backbone.reader()
    ids, lengths = tokenize_names(tokenizer, stored.class_names)
    templates = tuple(stored.manifest["templates"])
    stop = bool(templates) and templates[0].endswith(".")
    start_id = int(tokenizer(["a"])[0, 0])
    context = [start_id] * NEUTRAL if templates == BARE else _tokens(tokenizer, START_WORDS)
    return Words(
        ids=jnp.asarray(ids),
        lengths=jnp.asarray(lengths),
        start_id=jnp.int32(start_id),
        end_id=jnp.int32(tokenizer.eos_id),
        tail_ids=jnp.asarray(_tokens(tokenizer, ".") if stop else [], jnp.int32),
        context_ids=jnp.asarray(context, jnp.int32),
        tower=FrozenText.of(nnx.merge(backbone.graphdef, backbone.state).text),
    )


def tokenize_names(tokenizer: Tokenizer, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Tokenize names without start and end; ``_`` becomes a space, as published.

    Ids [classes longest] are zero after a name; the number of tokens of each comes beside them.
    """
    rows = tokenizer([name.replace("_", " ") for name in names])[:, 1:]
    lengths = np.argmax(rows == tokenizer.eos_id, axis=1).astype(np.int32)
    longest = max(1, int(lengths.max(initial=0)))
    inside = np.arange(longest) < lengths[:, None]
    return np.where(inside, rows[:, :longest], 0).astype(np.int32), lengths


def _tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    ids, lengths = tokenize_names(tokenizer, [text])
    found: list[int] = ids[0, : lengths[0]].tolist()
    return found


def words_of(words: Words, classes: np.ndarray, draws: int) -> Words:
    """Choose classes, cut to the longest name among them, and repeat for several draws.

    Args:
        draws: length of the leading axis that every array but the tower gets.
    """
    lengths = words.lengths[classes]
    longest = max(1, int(np.max(np.asarray(lengths), initial=0)))
    few = words._replace(ids=words.ids[classes, :longest], lengths=lengths, tower=None)
    few = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (draws, *leaf.shape)), few)
    return few._replace(tower=words.tower)
