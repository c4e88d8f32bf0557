"""The methods by name. A new method is one file and one line here."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.adapters.meta_adapter import MetaAdapter
from fsclip_jax.adapters.prototype import Prototype
from fsclip_jax.adapters.text_prototype import TextPrototype
from fsclip_jax.adapters.tip_adapter import TipAdapter
from fsclip_jax.adapters.zero_shot import ZeroShot
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.errors import UserError, suggestion
from fsclip_jax.numerics import l2_normalize

ADAPTERS: Mapping[str, Callable[..., Adapter]] = MappingProxyType(
    {
        "zero_shot": ZeroShot,
        "prototype": Prototype,
        "text_prototype": TextPrototype,
        "tip_adapter": TipAdapter,
        "meta_adapter": MetaAdapter,
    }
)
"""Every method, in the order of the tables. Each entry makes the adapter from its static config."""


def get_adapter(name: str, **config: Any) -> Adapter:
    """Return the method of that name.

    Args:
        name: a key of :data:`ADAPTERS`.
        **config: static fields of the method, such as ``heads``; the rest keeps its default.

    Returns:
        The adapter, a frozen dataclass.

    Raises:
        UserError: if there is no such method, or it has no such field.

    Example:
        >>> get_adapter("meta_adapter", heads=4)
        MetaAdapter(heads=4, text_in_keys=True)
    """
    if name not in ADAPTERS:
        raise UserError(
            f"no method named {name!r}; the methods are {', '.join(ADAPTERS)}"
            + suggestion(name, ADAPTERS)
        )
    adapter = ADAPTERS[name]
    fields = [f.name for f in dataclasses.fields(adapter)]  # type: ignore[arg-type]
    for field in config:
        if field not in fields:
            accepted = ", ".join(fields) or "none"
            raise UserError(
                f"{name} has no field {field!r}; its fields are: {accepted}"
                + suggestion(field, fields)
            )
    return adapter(**config)


def example_task(
    way: int = 5, shot: int = 4, query: int = 6, dim: int = 8, seed: int = 0
) -> tuple[Task, Query]:
    """Make a small random task, for examples and tests.

    Args:
        way: number of classes.
        shot: shots of a class.
        query: number of query images.
        dim: width of the features.
        seed: of the random numbers.

    Returns:
        A task of unit vectors scattered around one centre a class, and queries of it.

    Example:
        >>> task, query = example_task(way=3, shot=2)
        >>> task.support.shape, query.labels.shape
        ((3, 2, 8), (6,))
    """
    centre_key, text_key, shot_key, query_key = jax.random.split(jax.random.key(seed), 4)
    centres = jax.random.normal(centre_key, (way, dim))
    labels = jnp.arange(query) % way
    text = centres + jax.random.normal(text_key, (way, dim))
    support = centres[:, None] + jax.random.normal(shot_key, (way, shot, dim))
    features = centres[labels] + jax.random.normal(query_key, (query, dim))
    task = Task(
        support=l2_normalize(support),
        support_mask=jnp.ones((way, shot), bool),
        text=l2_normalize(text),
        logit_scale=jnp.float32(100.0),
    )
    return task, Query(l2_normalize(features), labels, jnp.ones((query,), bool))
