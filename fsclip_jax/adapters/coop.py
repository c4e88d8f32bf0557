"""CoOp: context vectors of the prompt learned through the frozen text tower."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Scalars, init_scalars, logits_of_weights
from fsclip_jax.adapters.descent import Batch, Descent, cross_entropy, support_rows
from fsclip_jax.adapters.prompt_text import (
    Position,
    encode_classes,
    first_context,
    lay_out,
    needed_words,
    shared_count,
)
from fsclip_jax.adapters.prompt_training import learn_prompt
from fsclip_jax.episodes.task import Task
from fsclip_jax.numerics import cosine_logits
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, State

LEARNING_RATE = 2e-3


@dataclass(frozen=True)
class CoOp:
    """Learn ``v_1 ... v_M`` in ``w_c = normalise(E([start] v_1 ... v_M name_c [end]))``.

    Logits are ``logit_scale f . w_c``; ``E`` is the frozen text tower. The loss is the
    cross-entropy over all classes of the task, of the support images.

    ``params``: ``lr``, the learning rate after the warm-up.

    A task without any shot has nothing to learn from: its weights are ``task.text``.

    Attributes:
        context: number ``M`` of context vectors; the paper has 4 and 16.
        start: ``words`` for the embeddings of "a photo of a", where these are ``M`` tokens;
            otherwise random vectors, the same for all classes.
        position: of the class name; ``end`` puts it last.
        class_specific: whether every class learns a context of its own.
        steps: SGD steps.
        batch: images of a step.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(CoOp(steps=2)).shape
        (6, 3)

    Source: Zhou et al., "Learning to Prompt for Vision-Language Models", IJCV 2022, section 3.
    """

    context: int = 4
    start: Literal["words", "random"] = "words"
    position: Position = "end"
    class_specific: bool = False
    steps: int = 200
    batch: int = 32

    name: ClassVar[str] = "coop"
    scalars: ClassVar[Scalars] = {"lr": LEARNING_RATE}
    """The published learning rate."""
    init = init_scalars
    logits = logits_of_weights
    needs: ClassVar[frozenset[str]] = frozenset({"words"})
    one_by_one: ClassVar[bool] = True

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Learn the context and encode every class with it."""
        weights = self.train(params, task, key).params
        learned = jnp.where(task.support_mask.any(), weights, task.text.astype(jnp.float32))
        return {"weights": learned, "logit_scale": task.logit_scale}

    def train(self, params: Params, task: Task, key: PRNGKeyArray) -> Descent:
        """Learn the context, and return the weights that it gives.

        Raises:
            UserError: the task has no words, or the context leaves no room for the names.
        """
        words = needed_words(task.words, self.name)
        context_key, batch_key = jax.random.split(key)
        endings = lay_out(words, self.context, self.position, self.class_specific)
        begin = words.tower.build().embed(words.start_id)
        before = shared_count(self.context, self.position, self.class_specific)
        context = first_context(words, self.context, self.start, context_key)
        if self.class_specific:
            context = jnp.broadcast_to(context, (len(words.lengths), *context.shape))

        def weights(context: Array) -> Float[Array, "way dim"]:
            return encode_classes(words.tower, begin, context, endings, before)

        def loss(context: Array, batch: Batch) -> Float[Array, ""]:
            logits = cosine_logits(batch.features, weights(context), task.logit_scale)
            return cross_entropy(logits, batch)

        end = learn_prompt(
            loss,
            context,
            support_rows(task),
            batch_key,
            params["lr"],
            steps=self.steps,
            batch=self.batch,
        )
        return Descent(weights(end.params), end.losses)
