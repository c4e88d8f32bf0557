"""CLIP's text tower: a causal transformer read at the end-of-text token."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fsclip_jax.clip.attention import Past, embedding, linear
from fsclip_jax.clip.bpe import clip_tokenizer
from fsclip_jax.clip.config import TextConfig
from fsclip_jax.clip.family import TextSide
from fsclip_jax.clip.transformer import layer_norm, make_blocks, run_blocks, run_past
from fsclip_jax.typing import Array, Float, Int, Params


def end_positions(ids: Int[Array, "batch length"], eos_id: int | None) -> Int[Array, "batch"]:
    """Find the token at which each prompt is read: the first ``eos_id``, or 0 without any.

    None stands for OpenAI's rule, the first place of the largest id.

    Example:
        >>> end_positions(jnp.array([[7, 1, 9, 9]]), 1).tolist()
        [1]
    """
    score = ids if eos_id is None else (ids == eos_id).astype(jnp.int32)
    return jnp.argmax(score, axis=-1).astype(jnp.int32)


def cut_to_longest(
    ids: Int[np.ndarray, "batch length"], config: TextConfig, multiple: int = 8
) -> Int[np.ndarray, "batch kept"]:
    """Leave out the positions behind the end of every prompt, which no feature depends on.

    The work grows with the positions: class names under a template take 16 of OpenAI's 77. The
    length is rounded up to a multiple, so that few lengths are compiled.

    Example:
        >>> config = TextConfig(32, 77, 16, 2, 2, 32, embed_dim=4)
        >>> cut_to_longest(np.array([[30, 5, 31] + 74 * [31]]), config).shape
        (1, 8)
    """
    score = ids if config.eos_id is None else ids == config.eos_id
    longest = int(score.argmax(-1).max(initial=0)) + 1
    return ids[:, : -(-longest // multiple) * multiple]


class TextTower(nnx.Module):
    """Token and position embeddings, causal blocks, a norm and a projection.

    There is no padding mask: attention is causal, so nothing after the end-of-text token
    reaches it, and id 0 is the token ``!``, not padding. For the same reason a batch may be
    cut to its longest prompt without changing any result.

    Example:
        >>> config = TextConfig(32, 8, 16, 2, 2, 32, embed_dim=4)
        >>> tower = TextTower(config, rngs=nnx.Rngs(0))
        >>> tower(jnp.array([[30, 5, 31, 31]])).shape
        (1, 4)

    Source: Radford et al., Learning Transferable Visual Models From Natural Language
    Supervision, ICML 2021, section 2.4.
    """

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = config.width
        self.token_embedding = embedding(config.vocab_size, width, 0.02, rngs=rngs)
        self.position_embedding = embedding(config.context_length, width, 0.01, rngs=rngs)
        self.blocks = nnx.List(make_blocks(config, causal=True, rngs=rngs))
        self.final_norm = layer_norm(width, config.norm_eps, rngs=rngs)
        self.projection = linear(width, config.embed_dim, width**-0.5, bias=False, rngs=rngs)

    def embed(self, ids: Int[Array, "*shape"]) -> Float[Array, "*shape width"]:
        """Look up token embeddings, before positions are added; an id out of range gives NaN."""
        return jnp.take(self.token_embedding[...], ids, axis=0, mode="fill")

    def prefix(self, embeds: Float[Array, "past width"]) -> tuple[Past, ...]:
        """Run the beginning that many prompts share, to what their rest sees of it in a call."""
        positions = self.position_embedding[...][: embeds.shape[0]]
        return run_past(self.blocks, embeds + positions.astype(embeds.dtype))

    def __call__(
        self,
        ids: Int[Array, "batch length"] | None = None,
        *,
        embeds: Float[Array, "batch length width"] | None = None,
        ends: Int[Array, "batch"] | None = None,
        pasts: Sequence[Past] | None = None,
    ) -> Float[Array, "batch dim"]:
        """Encode prompts given as token ids, or as token embeddings with their end positions.

        Embeddings have no positions added. ``pasts`` are from ``prefix``, if the prompts go on from
        a shared beginning; ``ends`` count from where it stops.

        Raises:
            ValueError: neither ``ids``, nor ``embeds`` with ``ends``; or a prompt too long.
        """
        if ids is not None:
            embeds = self.embed(ids) if embeds is None else embeds
            ends = end_positions(ids, self.config.eos_id) if ends is None else ends
        if embeds is None or ends is None:
            raise ValueError("give token ids, or token embeddings together with end positions")
        first = pasts[0].keys.shape[0] if pasts else 0
        length = first + embeds.shape[1]
        if length > self.config.context_length:
            raise ValueError(
                f"prompts have {length} tokens, the context length is {self.config.context_length}"
            )
        positions = self.position_embedding[...][first:length]
        x = embeds + positions[None].astype(embeds.dtype)
        x = run_blocks(self.blocks, x, ends, pasts)
        return self.projection(self.final_norm(x))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FrozenText:
    """A text tower as a pytree: its weights are the leaves, all else is static.

    Example:
        >>> tower = TextTower(TextConfig(32, 8, 16, 2, 2, 32, embed_dim=4), rngs=nnx.Rngs(0))
        >>> FrozenText.of(tower).build()(jnp.array([[30, 5, 31, 31]])).shape
        (1, 4)
    """

    graphdef: nnx.GraphDef = field(metadata={"static": True}, repr=False)
    """Static part, config included."""
    state: Params = field(repr=False)
    """Weights."""

    @classmethod
    def of(cls, tower: TextTower) -> "FrozenText":
        """Freeze a tower."""
        return cls(*nnx.split(tower))

    def without_tokens(self) -> "FrozenText":
        """Return the tower with one token left, for prompts that are embedded already."""
        state = jax.tree.map(lambda leaf: leaf, self.state)
        state["token_embedding"] = state["token_embedding"].replace(
            state["token_embedding"][...][:1]
        )
        return FrozenText(self.graphdef, state)

    def build(self) -> TextTower:
        """Return the tower as a module, to be called."""
        tower: TextTower = nnx.merge(self.graphdef, self.state)
        return tower


CLIP_TEXT = TextSide(TextConfig, TextTower, clip_tokenizer, cut_to_longest)
"""What every family says that has this tower."""
