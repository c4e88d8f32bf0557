"""CoCoOp: a learned context that a small network shifts for every image."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Scalars, init_scalars
from fsclip_jax.adapters.descent import Batch, Descent, cross_entropy, support_rows
from fsclip_jax.adapters.prompt_text import (
    PIECE_BYTES,
    Endings,
    Position,
    encode_classes,
    first_context,
    lay_out,
    map_pieces,
    needed_words,
    shared_count,
    token_bytes,
)
from fsclip_jax.adapters.prompt_training import learn_prompt
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import cosine_logits
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, State

LEARNING_RATE = 2e-3
REDUCTION = 16
"""How much narrower than the features the hidden layer of the meta-net is, as published."""


def init_meta_net(key: PRNGKeyArray, dim: int, width: int) -> Params:
    """Return the meta-net before training: uniform, within ``1 / sqrt(inputs)``.

    ``linear1`` is from ``dim`` to ``dim / 16``, ``linear2`` to the width of the text tower; a
    weight maps as ``y = x W^T + b``.

    Example:
        >>> init_meta_net(jax.random.key(0), 32, 8)["linear1"]["weight"].shape
        (2, 32)
    """
    hidden = max(1, dim // REDUCTION)
    keys = jax.random.split(key, 4)

    def linear(keys: Array, inputs: int, outputs: int) -> Params:
        bound = inputs**-0.5
        shapes = {"weight": (outputs, inputs), "bias": (outputs,)}
        return {
            name: jax.random.uniform(own, shape, jnp.float32, -bound, bound)
            for own, (name, shape) in zip(keys, shapes.items(), strict=True)
        }

    return {"linear1": linear(keys[:2], dim, hidden), "linear2": linear(keys[2:], hidden, width)}


def meta_net(params: Params, features: Float[Array, "*batch dim"]) -> Float[Array, "*batch width"]:
    """Shift of the context for an image, ``W_2 relu(W_1 f + b_1) + b_2``.

    It is added to all context vectors.
    """
    first, second = params["linear1"], params["linear2"]
    hidden = jax.nn.relu(features @ first["weight"].T + first["bias"][None])
    return hidden @ second["weight"].T + second["bias"][None]


@dataclass(frozen=True)
class CoCoOp:
    """Context vectors that depend on the image, ``v_m(f) = v_m + h(f)``.

    ``w_c(f) = normalise(E([start] v_1(f) ... v_M(f) name_c [end]))``; logits are
    ``logit_scale f . w_c(f)``. ``E`` is the frozen text tower, ``h`` the meta-net. Every pair of
    an image and a class has a prompt of its own, in training and in classification. The pairs
    are worked on in pieces, so that memory does not grow with their number.

    ``params``: ``lr``, the learning rate after the warm-up.

    A task without any shot has nothing to learn from: its weights are ``task.text``.

    Attributes:
        context: number ``M`` of context vectors; the paper has 4.
        start: ``words`` for the embeddings of "a photo of a", where these are ``M`` tokens;
            otherwise random vectors.
        position: of the class name; ``end`` puts it last.
        steps: SGD steps.
        batch: images of a step; the paper has 1, for memory.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(CoCoOp(steps=2)).shape
        (6, 3)

    Source: Zhou et al., "Conditional Prompt Learning for Vision-Language Models", CVPR 2022,
    section 3.2.
    """

    context: int = 4
    start: Literal["words", "random"] = "words"
    position: Position = "end"
    steps: int = 200
    batch: int = 1

    name: ClassVar[str] = "cocoop"
    scalars: ClassVar[Scalars] = {"lr": LEARNING_RATE}
    """The published learning rate."""
    init = init_scalars
    needs: ClassVar[frozenset[str]] = frozenset({"words"})
    one_by_one: ClassVar[bool] = True

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Learn context and meta-net; keep with them what the prompts of a query need."""
        return self.train(params, task, key).params

    def train(self, params: Params, task: Task, key: PRNGKeyArray) -> Descent:
        """Learn context and meta-net, and return the fitted state.

        Raises:
            UserError: the task has no words, or the context leaves no room for the names.
        """
        words = needed_words(task.words, self.name)
        context_key, meta_key, batch_key = jax.random.split(key, 3)
        text = words.tower.build()
        context = first_context(words, self.context, self.start, context_key)
        meta = init_meta_net(meta_key, task.support.shape[-1], context.shape[-1])
        state = {
            # Of the token table a prompt needs what is looked up here.
            "tower": words.tower.without_tokens(),
            "begin": text.embed(words.start_id),
            "endings": lay_out(words, self.context, self.position)._asdict(),
            "text": task.text.astype(jnp.float32),
            "fitted": task.support_mask.any(),
            "logit_scale": task.logit_scale,
        }

        def loss(learned: Params, batch: Batch) -> Float[Array, ""]:
            return cross_entropy(self._prompted(state, learned, batch.features), batch)

        end = learn_prompt(
            loss,
            {"context": context, "meta_net": meta},
            support_rows(task),
            batch_key,
            params["lr"],
            steps=self.steps,
            batch=self.batch,
        )
        return Descent(state | {"learned": end.params}, end.losses)

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Return the scaled cosine of every query and the class's prompt for that query."""
        query = query.astype(jnp.float32)
        prompted = self._prompted(state, state["learned"], query)
        zero_shot = cosine_logits(query, state["text"], state["logit_scale"])
        return jnp.where(state["fitted"], prompted, zero_shot)

    def _prompted(
        self, state: State, learned: Params, features: Float[Array, "image dim"]
    ) -> Float[Array, "image way"]:
        endings, before = Endings(**state["endings"]), shared_count(self.context, self.position)

        def of_image(feature: Float[Array, " dim"]) -> Float[Array, " way"]:
            context = learned["context"] + meta_net(learned["meta_net"], feature[None])
            weights = encode_classes(state["tower"], state["begin"], context, endings, before)
            return cosine_logits(feature[None], weights, state["logit_scale"])[0]

        way, length = endings.slots.shape
        each = token_bytes(state["tower"].build().config) * length * way
        return map_pieces(jax.vmap(of_image), features, max(1, PIECE_BYTES // each))
