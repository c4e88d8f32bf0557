"""The methods by name. A new method is one file and one line here."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.ape import Ape
from fsclip_jax.adapters.ape_t import ApeT
from fsclip_jax.adapters.attn_adapter import AttnAdapter
from fsclip_jax.adapters.base import Adapter, needs_of, query_logits
from fsclip_jax.adapters.clap import Clap
from fsclip_jax.adapters.clip_adapter import ClipAdapter
from fsclip_jax.adapters.clip_lora import EXAMPLE_VALUES, ClipLora, as_pictures, as_pixels
from fsclip_jax.adapters.cocoop import CoCoOp
from fsclip_jax.adapters.coop import CoOp
from fsclip_jax.adapters.cross_modal import CrossModal
from fsclip_jax.adapters.gda import Gda
from fsclip_jax.adapters.linear_probe import LinearProbe
from fsclip_jax.adapters.lp_plus_plus import LpPlusPlus
from fsclip_jax.adapters.meta_adapter import MetaAdapter
from fsclip_jax.adapters.meta_prior import MetaPrior
from fsclip_jax.adapters.meta_probe import MetaProbe
from fsclip_jax.adapters.proker import ProKeR
from fsclip_jax.adapters.prolip import ProLip
from fsclip_jax.adapters.prompt_text import example_words
from fsclip_jax.adapters.prototype import Prototype
from fsclip_jax.adapters.ridge import Ridge
from fsclip_jax.adapters.ss_text_plus import SsTextPlus
from fsclip_jax.adapters.taskres import TaskRes
from fsclip_jax.adapters.text_prototype import TextPrototype
from fsclip_jax.adapters.timo import Timo
from fsclip_jax.adapters.tip_adapter import TipAdapter
from fsclip_jax.adapters.tip_adapter_f import TipAdapterF
from fsclip_jax.adapters.tip_x import TipX
from fsclip_jax.adapters.zero_shot import ZeroShot
from fsclip_jax.episodes.task import Prompts, Query, Task
from fsclip_jax.errors import UserError, suggestion
from fsclip_jax.features.projection import Projection
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Array, Float

ADAPTERS: Mapping[str, Callable[..., Adapter]] = MappingProxyType(
    {
        "zero_shot": ZeroShot,
        "prototype": Prototype,
        "text_prototype": TextPrototype,
        "ridge": Ridge,
        "tip_adapter": TipAdapter,
        "tip_x": TipX,
        "ape": Ape,
        "gda": Gda,
        "proker": ProKeR,
        "timo": Timo,
        "ss_text_plus": SsTextPlus,
        "tip_adapter_f": TipAdapterF,
        "clip_adapter": ClipAdapter,
        "taskres": TaskRes,
        "linear_probe": LinearProbe,
        "cross_modal": CrossModal,
        "lp_plus_plus": LpPlusPlus,
        "clap": Clap,
        "ape_t": ApeT,
        "prolip": ProLip,
        "coop": CoOp,
        "cocoop": CoCoOp,
        "clip_lora": ClipLora,
        "meta_adapter": MetaAdapter,
        "attn_adapter": AttnAdapter,
        "meta_prior": MetaPrior,
        "meta_probe": MetaProbe,
    }
)
"""Every method, in the order of the tables. Each entry makes the adapter from its static config."""


def get_adapter(name: str, **config: Any) -> Adapter:
    """Return the method of that name; static fields that are not given keep their defaults.

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
    way: int = 5,
    shot: int = 4,
    query: int = 6,
    dim: int = 8,
    seed: int = 0,
    *,
    views: int = 1,
    prompts: int = 0,
    words: bool = False,
    projection: bool = False,
    towers: bool = False,
) -> tuple[Task, Query]:
    """Make a small random task, for examples and tests: unit vectors around one centre a class.

    ``support`` is the mean of the ``views``, ``text`` that of the ``prompts`` of each class; 0
    leaves these out. ``words`` adds names as tokens, and a tiny text tower that is the same for
    all seeds. ``projection`` adds one that changes nothing, ``towers`` two tiny ones, and pictures
    in the place of vectors.

    Example:
        >>> task, query = example_task(way=3, shot=2)
        >>> task.support.shape, query.labels.shape
        ((3, 2, 8), (6,))
    """
    rng = np.random.default_rng(seed)
    dim = EXAMPLE_VALUES if towers else dim

    def near(centres: np.ndarray) -> jax.Array:
        x = centres + rng.standard_normal(centres.shape, np.float32)
        return jnp.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))

    centres = rng.standard_normal((way, dim), np.float32)
    labels = np.arange(query, dtype=np.int32) % way
    shots = near(np.repeat(centres[:, None], shot, axis=1))
    task = Task(
        support=shots,
        support_mask=jnp.asarray(np.ones((way, shot), bool)),
        text=near(centres),
        logit_scale=jnp.float32(100.0),
    )
    if views > 1:
        each = near(np.repeat(np.asarray(shots)[:, :, None] * dim**0.5, views, axis=2))
        task = task._replace(views=each, support=l2_normalize(each.mean(2)))
    if prompts:
        vectors = near(np.repeat(centres[:, None], prompts, axis=1))
        mask = jnp.asarray(np.ones((way, prompts), bool))
        text = l2_normalize(vectors.mean(1))
        task = task._replace(prompts=Prompts(vectors, mask), text=text)
    if words:
        tower = example_words(1, dim).tower
        task = task._replace(words=example_words(way, dim, seed)._replace(tower=tower))
    if projection:
        identity = Projection(jnp.asarray(np.eye(dim, dtype=np.float32)), jnp.zeros(dim))
        task = task._replace(projection=identity)
    mask = jnp.asarray(np.ones(query, bool))
    asked = near(centres[labels])
    if towers:
        task, asked = as_pictures(task, seed), as_pixels(asked)
    return task, Query(asked, jnp.asarray(labels), mask)


def example_logits(adapter: Adapter) -> Float[Array, "query way"]:
    """Fit a method to an example of three classes and classify six queries: a first look at it.

    Example:
        >>> example_logits(get_adapter("ridge")).shape
        (6, 3)
    """
    needs, key = needs_of(adapter), jax.random.key(0)
    prompts = 2 if "prompts" in needs else 0
    extras: dict[str, Any] = {name: name in needs for name in ("words", "projection", "towers")}
    task, query = example_task(way=3, prompts=prompts, **extras)
    state = adapter.fit(adapter.init(key, task.text.shape[1]), task, key)
    return query_logits(adapter, state, query)
