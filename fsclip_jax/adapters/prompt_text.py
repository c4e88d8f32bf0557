"""Prompts with learned vectors among their words, through the frozen text tower.

A prompt is ``[start] v_1 ... v_M name tail [end]``: ``M`` context vectors and the tokens of the
class name. Attention is causal, so two things need not be computed. Nothing after the end token
matters: prompts are cut to the longest. And what all classes begin with looks at nothing else:
it runs once, and each class runs its own rest, which looks at it.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fsclip_jax.clip.config import TextConfig, VitConfig
from fsclip_jax.clip.text import FrozenText, TextTower
from fsclip_jax.episodes.task import Words
from fsclip_jax.errors import UserError
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Array, Float, Int, PRNGKeyArray

Position: TypeAlias = Literal["end", "middle", "front"]
"""Where the class name stands: after the context, in the middle of it, or before it."""

CONTEXT_STD = 0.02
"""Spread of a random context, as published."""

PIECE_BYTES = 2**28
"""Activations that the backward pass of one piece of the work may keep."""


class Endings(NamedTuple):
    """Each class's prompt after the beginning that all of them share.

    Embeddings are zero where a context vector goes and after the end; ``slots`` are indices of
    context vectors, -1 where there is none; ``ends`` is where each prompt is read.
    """

    embeds: Float[Array, "way length width"]
    slots: Int[Array, "way length"]
    ends: Int[Array, " way"]


def needed_words(words: Words | None, method: str) -> Words:
    """Return the words of a task, or say that the method does not apply without them.

    Raises:
        UserError: there are none.
    """
    if words is None:
        raise UserError(
            f"{method} learns prompts and needs the text tower; give --data emoji or folder:DIR, "
            "or a bank whose backbone can be loaded"
        )
    return words


def shared_count(context: int, position: Position, class_specific: bool = False) -> int:
    """Return how many context vectors come before all that differs between classes.

    Example:
        >>> shared_count(5, "end"), shared_count(5, "middle"), shared_count(5, "front")
        (5, 2, 0)
    """
    return 0 if class_specific else {"end": context, "middle": context // 2, "front": 0}[position]


def lay_out(
    words: Words, context: int, position: Position, class_specific: bool = False
) -> Endings:
    """Lay out each class's prompt, without its shared beginning.

    Names that leave no room for the rest are cut, as a tokenizer cuts them.

    Raises:
        UserError: the context leaves no room for a name.
    """
    text = words.tower.build()
    tail = words.tail_ids.shape[-1]
    room = text.config.context_length - 2 - context - tail
    if room < 1:
        raise UserError(
            f"a context of {context} vectors leaves no room for a class name: the text tower "
            f"reads {text.config.context_length} tokens; give context {context + room - 1} or less"
        )
    longest = min(words.ids.shape[-1], room)
    count = jnp.minimum(words.lengths, longest)[:, None]
    before = shared_count(context, position)
    own = before if class_specific else 0  # vectors before the name that are not shared
    after = context - before
    place = jnp.arange(own + longest + after + tail + 1)[None, :]
    past_name = place - own - count
    in_front, behind = place < own, (past_name >= 0) & (past_name < after)
    slots = jnp.where(in_front, place, jnp.where(behind, before + past_name, -1))
    # All tokens of a class in one row, and for each place of its prompt where to find the token.
    name = words.ids[:, :longest]
    rest = jnp.append(words.tail_ids, words.end_id)[None, :]
    source = jnp.concatenate([name, jnp.broadcast_to(rest, (len(name), tail + 1))], axis=1)
    column = jnp.where(past_name < 0, place - own, longest + past_name - after)
    ids = jnp.take_along_axis(source, jnp.clip(column, 0, longest + tail), axis=1)
    is_token = (slots < 0) & (past_name <= after + tail)
    embeds = jnp.where(is_token[..., None], text.embed(ids), 0)
    return Endings(embeds, slots, (own + count + after + tail)[:, 0])


def first_context(
    words: Words, context: int, start: Literal["words", "random"], key: PRNGKeyArray
) -> Float[Array, "context width"]:
    """Return the context before training, the same for all classes.

    For ``words`` the embeddings of ``words.context_ids``, where there are as many of them as
    vectors; otherwise random, float32.
    """
    text = words.tower.build()
    if start == "words" and words.context_ids.shape[-1] == context:
        return text.embed(words.context_ids).astype(jnp.float32)
    return CONTEXT_STD * jax.random.normal(key, (context, text.config.width), jnp.float32)


def encode_classes(
    tower: FrozenText,
    start: Float[Array, " width"],
    context: Float[Array, "*each context width"],
    endings: Endings,
    before: int,
) -> Float[Array, "way dim"]:
    """Encode the prompts of all classes.

    The beginning ``[start] v_1 ... v_before`` runs once. The classes are worked on in pieces
    whose activations are computed again in the backward pass, so that its memory does not grow
    with their number.

    No gradient is taken of the tower. ``start`` is the embedding of the start token, ``context``
    shared or one set a class, ``endings`` from :func:`lay_out` and ``before`` from
    :func:`shared_count`. Unit text features, float32.
    """
    text = jax.lax.stop_gradient(tower).build()
    dtype = start.dtype
    shared = context.ndim == 2
    begin = (
        jnp.concatenate([start[None], context[:before].astype(dtype)]) if before else start[None]
    )
    pasts = text.prefix(begin)

    def encode(part: tuple[Endings, Array | None]) -> Float[Array, "part dim"]:
        some, own = part
        vectors = context if own is None else own
        placed = jax.nn.one_hot(some.slots, vectors.shape[-2], dtype=dtype)
        form = "csm,mw->csw" if own is None else "csm,cmw->csw"
        embeds = some.embeds + jnp.einsum(form, placed, vectors.astype(dtype))
        return l2_normalize(text(embeds=embeds, ends=some.ends, pasts=pasts).astype(jnp.float32))

    each = token_bytes(text.config) * endings.slots.shape[-1]
    return map_pieces(encode, (endings, None if shared else context), max(1, PIECE_BYTES // each))


def token_bytes(config: TextConfig | VitConfig) -> int:
    """Estimate what the backward pass keeps of one token in all blocks of a tower.

    Example:
        >>> token_bytes(TextConfig(49408, 77, 512, 12, 8, 2048, 512)) // 1024
        576
    """
    return 4 * config.layers * (12 * config.width + 3 * config.mlp_width)


def map_pieces(function: Callable[[Any], Array], rows: Any, most: int) -> Array:
    """Apply a function to rows in pieces, computing each again in the backward pass.

    ``rows`` is a pytree whose leaves share their leading axis; each row of the result depends on
    that row alone. A piece has ``most`` rows at most.

    Example:
        >>> map_pieces(lambda x: 2 * x, jnp.arange(5), 2).tolist()
        [0, 2, 4, 6, 8]
    """
    count = jax.tree.leaves(rows)[0].shape[0]
    pieces = -(-count // most)
    if pieces <= 1:
        return function(rows)
    size = -(-count // pieces)

    def split(leaf: Array) -> Array:
        spare = [(0, pieces * size - count)] + [(0, 0)] * (leaf.ndim - 1)
        return jnp.pad(leaf, spare).reshape(pieces, size, *leaf.shape[1:])

    out = jax.lax.map(jax.checkpoint(function), jax.tree.map(split, rows))
    return out.reshape(pieces * size, *out.shape[2:])[:count]


def example_words(way: int, dim: int, seed: int = 0) -> Words:
    """Make random names and a tiny text tower, for examples and tests.

    Names of 1 to 3 tokens; the tower has one block of width 16 and reads 16 tokens.

    Example:
        >>> example_words(way=3, dim=8).ids.shape
        (3, 3)
    """
    config = TextConfig(32, 16, 16, 1, 2, 32, embed_dim=dim)
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 4, way)
    ids = np.where(np.arange(3) < lengths[:, None], rng.integers(0, 29, (way, 3)), 0)
    return Words(
        ids=jnp.asarray(ids, jnp.int32),
        lengths=jnp.asarray(lengths, jnp.int32),
        start_id=jnp.int32(30),
        end_id=jnp.int32(31),
        tail_ids=jnp.asarray([29], jnp.int32),
        context_ids=jnp.asarray([1, 2, 3, 1], jnp.int32),
        tower=FrozenText.of(TextTower(config, rngs=nnx.Rngs(seed))),
    )
