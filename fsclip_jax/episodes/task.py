"""What an adapter sees of an episode, and what it is judged on."""

from typing import Any, NamedTuple

import jax

from fsclip_jax.features.projection import Projection
from fsclip_jax.typing import Array, Bool, Float, Int


class Prompts(NamedTuple):
    """Unit vectors of every prompt of a class, zero where not present: for methods that weigh."""

    vectors: Float[Array, "*batch way prompt dim"]
    mask: Bool[Array, "*batch way prompt"]


class Words(NamedTuple):
    """Class names as tokens and the frozen text tower, for methods that learn prompts.

    Attributes:
        tail_ids: token ids between the name and the end, such as a full stop; may be none.
        context_ids: token ids of the words that a learned context starts from.
        tower: the text tower, a ``clip.text.FrozenText``. The same for all tasks: it never has
            a batch axis.
    """

    ids: Int[Array, "*batch way length"]
    lengths: Int[Array, "*batch way"]
    start_id: Int[Array, "*batch"]
    end_id: Int[Array, "*batch"]
    tail_ids: Int[Array, "*batch tail"]
    context_ids: Int[Array, "*batch context"]
    tower: Any


class Towers(NamedTuple):
    """Both towers and a prompt of every class, for methods that train through them.

    Attributes:
        image: the image tower, a ``clip.lora.FrozenImages``.
        text: the text tower, a ``clip.text.FrozenText``. Neither ever has a batch axis.
        prompt_ids: token ids of one whole prompt a class.
    """

    image: Any
    text: Any
    prompt_ids: Int[Array, "*batch way length"]


class Task(NamedTuple):
    """One few-shot task: all that ``fit`` may look at.

    Attributes:
        support: unit features of the support images; rows that are not present are zero.
        text: unit text features (zero-shot weights), one vector a class; zero where the features
            are of an image tower without text.
        logit_scale: inverse temperature of the backbone, a scalar (100 for OpenAI's models).
        views: unit features of every view of the support images, of which ``support`` is the
            mean; ``None`` where there is one view. They share ``support_mask``.
        projection: where a method trains the last projection of the image tower: it, the same for
            all tasks; support, views and queries are then before it, of any length.
        text_lengths: of the text vectors as the tower gives them, not normalised; ``None`` where
            they are not known.
        towers: where a method trains the towers: they, the same for all tasks; support, views and
            queries are then flat pixels, 0 to 255.
    """

    support: Float[Array, "*batch way shot dim"]
    support_mask: Bool[Array, "*batch way shot"]
    text: Float[Array, "*batch way dim"]
    logit_scale: Float[Array, "*batch"]
    views: Float[Array, "*batch way shot view dim"] | None = None
    prompts: Prompts | None = None
    words: Words | None = None
    projection: Projection | None = None
    text_lengths: Float[Array, "*batch way"] | None = None
    towers: Towers | None = None


class Query(NamedTuple):
    """The images of an episode that the adapter has not seen.

    Attributes:
        labels: index of the class within the task, 0 to way - 1.
    """

    features: Float[Array, "*batch query dim"]
    labels: Int[Array, "*batch query"]
    mask: Bool[Array, "*batch query"]
    patches: Float[Array, "*batch query patch dim"] | None = None


def task_axes(task: Task) -> Task:
    """Return the ``in_axes`` of ``jax.vmap`` for tasks that share their towers.

    Returns the same structure, 0 for every array with the axis, ``None`` for what is shared.

    Example:
        >>> import jax.numpy as jnp
        >>> task_axes(Task(jnp.ones((2, 1, 1, 4)), jnp.ones((2, 1, 1), bool),
        ...                jnp.ones((2, 1, 4)), jnp.ones(2))).text
        0
    """
    axes: Task = jax.tree.map(lambda _: 0, _own(task))
    return axes


def take_tasks(task: Task, rows: Any) -> Task:
    """Choose some of several tasks; the towers and the projection stay whole.

    ``rows`` is an index, a slice or an array of indices into that axis.
    """
    chosen: Task = jax.tree.map(lambda leaf: leaf[rows], _own(task))
    words, towers = chosen.words, chosen.towers
    if words is not None and task.words is not None:
        words = words._replace(tower=task.words.tower)
    if towers is not None and task.towers is not None:
        towers = towers._replace(image=task.towers.image, text=task.towers.text)
    return chosen._replace(projection=task.projection, words=words, towers=towers)


def _own(task: Task) -> Task:
    """Leave out what all tasks share: the projection and the towers."""
    words, towers = task.words, task.towers
    words = None if words is None else words._replace(tower=None)
    towers = None if towers is None else towers._replace(image=None, text=None)
    return task._replace(projection=None, words=words, towers=towers)
