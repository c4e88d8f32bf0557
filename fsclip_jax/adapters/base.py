"""The protocol that every method of the package follows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp

from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.numerics import cosine_logits
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, State


@dataclass(frozen=True)
class Grid:
    """Values of the searched scalars of a method; the settings are their product.

    Attributes:
        refit: scalars of ``params`` that ``fit`` uses: every value costs a fit.
        late: scalars of ``params`` that ``fit`` hands on in the state under the same name, and
            only ``logits`` uses: one fit serves all their values.

    Example:
        >>> Grid(refit={"beta": (1.0, 2.0)}, late={"alpha": (0.1, 1.0, 10.0)}).names
        ('beta', 'alpha')
    """

    refit: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    late: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the scalars, the slowest to vary first."""
        return (*self.refit, *self.late)


Scalars: TypeAlias = Mapping[str, float]
"""Searched scalars and their values before any search."""

Scaled: TypeAlias = Literal["all", "text", "in the fit"]
"""What the logit scale multiplies: all of the logits; the text's part alone, as the caches are
published; or it is used in the fit, for example in a loss, and the logits follow no rule."""


@runtime_checkable
class Adapter(Protocol):
    """A few-shot method as three pure functions over pytrees.

    An adapter is a frozen dataclass. Its fields are static choices (number of heads, number of
    optimiser steps) and are the method's configuration; whatever is learned or searched is a
    leaf of ``params`` and therefore traced: one compile serves every value. None of the three
    functions has a batch axis; ``jax.vmap`` gives episodes, seeds and search grids.

    Example:
        >>> import jax
        >>> from fsclip_jax.adapters.catalog import example_task, get_adapter
        >>> task, query = example_task(way=3)
        >>> adapter = get_adapter("ridge")
        >>> params = adapter.init(jax.random.key(0), dim=8)
        >>> state = adapter.fit(params, task, jax.random.key(0))
        >>> adapter.logits(state, query.features).shape
        (6, 3)

    What only some methods have is a class variable, read by the functions below:

    - ``grid``: a :class:`Grid`, or several that name the same scalars, if scalars of ``params``
      are searched; and ``count_right``, if it knows a cheaper way over them than
      :func:`fsclip_jax.adapters.search.count_right`;
    - ``by_shots(params, mask) -> params``, if values that its scalars stand for depend on the
      number of shots; and ``most_searched``, shots in all above which no setting is searched;
    - ``meta_learned = True``, if ``params`` is learned across tasks by ``fsclip train``; and a
      function ``prime(params, task) -> params``, if they start from statistics of all the classes
      that are trained on;
    - ``one_by_one = True``, if several tasks are better fitted one after the other;
    - ``needs``: fields of the task beyond the features (``prompts``, ``words``, ``projection``)
      or of the query (``patches``), without which the method does not apply;
    - ``without_text``: scalars of ``params`` that are fixed where there is no text, perhaps none;
      a method that has it runs there, and ``task.text`` is zero;
    - ``reads_text_lengths = True``, if it trains from the text at the length that the tower gave;
    - ``reads_patches = True``, if ``logits`` takes the patches of the query images as a third
      argument, or ``None`` where there are none;
    - ``train(params, task, key) -> Descent``, if it learns from the shots by steps.

    And what it claims, for the contract tests to hold it to, and for export:

    - ``zero_shot_at``: leaves of ``params`` at which the method equals zero-shot;
    - ``classes_meet = True``, if the shots of one class have a say in another's logit, as they
      have in a common covariance, a kernel matrix or a loss over all classes;
    - ``scaled``, what the logit scale multiplies, see :data:`Scaled`;
    - ``any_shape = False``, if ``fit`` is not one program for any number of classes and shots.

    A method with a ``train`` meets its classes, uses the scale in the fit and is no one program
    for any shape, without saying so.
    """

    @property
    def name(self) -> str:
        """The name by which commands and reports call the method."""
        ...

    def init(self, key: PRNGKeyArray, dim: int) -> Params:
        """Return the learned and searched leaves at their starting values; ``{}`` if none."""
        ...

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Turn one task into a classifier."""
        ...

    def logits(self, state: State, query: Float[Array, "query dim"]) -> Float[Array, "query way"]:
        """Classify unit image features with a fitted classifier."""
        ...


def grids_of(adapter: Adapter) -> tuple[Grid, ...]:
    """Return the grids of the searched scalars of a method; none if nothing is searched."""
    grid: Grid | tuple[Grid, ...] = getattr(adapter, "grid", ())
    return (grid,) if isinstance(grid, Grid) else grid


def setting_of(adapter: Adapter, params: Params, task: Task) -> Params:
    """Return the values that the scalars of a method stand for at the shots of a task."""
    by_shots: Any = getattr(adapter, "by_shots", None)
    return params if by_shots is None else by_shots(params, task.support_mask)


def most_searched(adapter: Adapter) -> int:
    """Return the shots in all above which no setting is searched; 0 if there is no bound."""
    return int(getattr(adapter, "most_searched", 0))


def needs_of(adapter: Adapter) -> frozenset[str]:
    """Return the inputs beyond features and text without which the method does not apply."""
    needs: frozenset[str] = getattr(adapter, "needs", frozenset())
    return needs


def runs_without_text(adapter: Adapter) -> bool:
    """Say whether a method applies to features of an image tower that has no text."""
    return hasattr(adapter, "without_text")


def is_meta_learned(adapter: Adapter) -> bool:
    """Say whether the parameters of a method are learned across tasks."""
    return bool(getattr(adapter, "meta_learned", False))


def learns_across_tasks(adapter: Adapter) -> bool:
    """Say whether ``params`` hold anything for ``fsclip train`` to learn.

    Nothing if a method has none, or trains on the shots of each task.
    """
    if is_meta_learned(adapter):
        return True
    params = jax.eval_shape(lambda: adapter.init(jax.random.key(0), 8))
    return not hasattr(adapter, "train") and bool(jax.tree.leaves(params))


def classes_meet(adapter: Adapter) -> bool:
    """Say whether the shots of one class have a say in the logit of another."""
    return bool(getattr(adapter, "classes_meet", hasattr(adapter, "train")))


def scaled_of(adapter: Adapter) -> Scaled:
    """Return what the logit scale of the task multiplies."""
    usual: Scaled = "in the fit" if hasattr(adapter, "train") else "all"
    return getattr(adapter, "scaled", usual)


def fits_any_shape(adapter: Adapter) -> bool:
    """Say whether ``fit`` is one program for any number of classes and shots.

    Other methods choose steps, pieces or pairs by these numbers, or need more than features and
    text.
    """
    simple = not hasattr(adapter, "train") and not needs_of(adapter)
    return bool(getattr(adapter, "any_shape", simple))


def reads_patches(adapter: Adapter) -> bool:
    """Say whether a method looks at the patches of the query images where there are any."""
    return bool(getattr(adapter, "reads_patches", False))


def query_logits(adapter: Adapter, state: State, query: Query) -> Float[Array, "query way"]:
    """Classify queries, with their patches where the method reads them.

    Labels and mask are not looked at.
    """
    if reads_patches(adapter):
        classify: Any = adapter.logits
        logits: Float[Array, "query way"] = classify(state, query.features, query.patches)
        return logits
    return adapter.logits(state, query.features)


def init_scalars(adapter: Adapter, key: PRNGKeyArray, dim: int) -> Params:
    """Return the ``scalars`` of a class as leaves: the ``init`` of methods that learn no more."""
    del key, dim
    scalars: Scalars = getattr(adapter, "scalars", {})
    return {name: jnp.float32(value) for name, value in scalars.items()}


def logits_of_weights(
    _adapter: Adapter, state: State, query: Float[Array, "query dim"]
) -> Float[Array, "query way"]:
    """Return the scaled cosine of every query and every weight: the ``logits`` of many methods."""
    return cosine_logits(query, state["weights"], state["logit_scale"])
