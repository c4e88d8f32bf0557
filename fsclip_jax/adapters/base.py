"""The protocol that every method of the package follows."""

from typing import Protocol, runtime_checkable

from fsclip_jax.episodes.task import Task
from fsclip_jax.typing import Array, Float, Params, PRNGKeyArray, State


@runtime_checkable
class Adapter(Protocol):
    """A few-shot method as three pure functions over pytrees.

    An adapter is a frozen dataclass. Its fields are static choices (number of heads, number of
    optimiser steps) and are the method's configuration; whatever is learned or searched is a
    leaf of ``params`` and therefore traced: one compile serves every value. None of the three
    functions has a batch axis; ``jax.vmap`` gives episodes, seeds and search grids.
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
