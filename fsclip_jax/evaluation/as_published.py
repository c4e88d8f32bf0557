"""Rows that copy what published code does and honesty forbids; each is labelled in the report."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Grid
from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.adapters.search import count_late, grid_settings
from fsclip_jax.adapters.tip_adapter_f import REACH, TipAdapterF
from fsclip_jax.adapters.tip_search import TIP_GRIDS, search_tip
from fsclip_jax.data.splits import SPLITS, base_novel
from fsclip_jax.episodes.task import Query, Task, take_tasks
from fsclip_jax.evaluation.published_meta_adapter import (
    PUBLISHED_RUN,
    PublishedRun,
    draw_published,
    published_accuracies,
)
from fsclip_jax.evaluation.results import Result
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.fitting.engine import Engine, fit_key
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Choice
from fsclip_jax.report.measured import Measured
from fsclip_jax.typing import Array, Params

SUFFIX = "_as_published"
"""What the name of such a row ends in."""

NOTES: Mapping[str, str] = {
    "tip_adapter_f": "the best epoch and, where there is no val split, alpha and beta are chosen "
    "on the test images, and the better of two settings is reported; not comparable with other "
    "rows",
    "meta_adapter": "novel classes and their shots are among the negatives of its training, its "
    "test images are as few as the shots, its support is overwritten by training images, and the "
    "best epoch is chosen on the test images; not comparable with other rows",
}
"""What is wrong with each, for the report."""

SEED = 1
"""The published code has one seed, 1; here seed ``i`` of the report is ``fold_in(key(1), i)``."""


def published_methods(names: tuple[str, ...], dim: int) -> tuple[Method, ...]:
    """Return the rows that the engine can evaluate as any other, with :func:`choose_on_test`."""
    if "tip_adapter_f" not in names:
        return ()
    adapter = get_adapter("tip_adapter_f", every_epoch=True)
    params = adapter.init(jax.random.key(0), dim)
    return (Method("tip_adapter_f" + SUFFIX, adapter, params, {"as_published": True}),)


def choose_on_test(
    engine: Engine, method: Method, task: Task, test: Query, val: Query | None
) -> Choice:
    """Choose epoch, alpha and beta of Tip-Adapter-F as its published code does.

    The epoch that is best on the test images with the starting alpha and beta; then alpha and
    beta that are best on val (on test where there is no val) with the keys of that epoch; then
    whichever of the two settings is better on test. The record says ``split test``.
    """
    adapter = method.adapter
    assert isinstance(adapter, TipAdapterF)
    draws = jnp.arange(task.text.shape[0])

    def every(params: Params, task: Task, test: Query, val: Query) -> tuple[Array, Array, Array]:
        return jax.lax.map(
            lambda draw: _choose_one(adapter, params, take_tasks(task, draw), test, val, draw),
            draws,
        )

    chosen, _ = engine.run(
        ("as_published", adapter), every, method.params, task, test, test if val is None else val
    )
    epoch, alpha, beta = (np.asarray(part) for part in chosen)
    record: dict[str, Any] = {
        "split": "test",
        "rule": "as published: " + NOTES["tip_adapter_f"],
        "epoch": (epoch + 1).astype(int).tolist(),
        "alpha": alpha.round(6).tolist(),
        "beta": beta.round(6).tolist(),
    }
    found = {"epoch": epoch, "alpha": alpha, "beta": beta}
    params = {
        name: jnp.asarray(found[name]) if name in found else jnp.full(len(epoch), leaf)
        for name, leaf in method.params.items()
    }
    return Choice(params, True, record)


def _choose_one(
    adapter: TipAdapterF, params: Params, task: Task, test: Query, val: Query, draw: Array
) -> tuple[Array, Array, Array]:
    """Epoch, alpha and beta of one draw."""
    state = adapter.fit(params, task, fit_key(draw))
    epochs = Grid(late={"epoch": tuple(map(float, range(adapter.epochs)))})
    right = count_late(adapter, epochs, state, test)
    epoch = right.argmax()
    cached = task._replace(support=state["cache_keys"][epoch])
    counts = [search_tip(cached, val, grid, REACH).ravel() for grid in TIP_GRIDS]
    best = jnp.concatenate(counts).argmax()
    values = grid_settings(get_adapter("tip_adapter"))
    found = {name: jnp.asarray(each)[best] for name, each in values.items()}
    searched = {**state, **found, "epoch": epoch.astype(jnp.float32)}
    hits = adapter.logits(searched, test.features).argmax(-1) == test.labels
    better = jnp.sum(hits & test.mask) > right.max()
    alpha = jnp.where(better, found["alpha"], params["alpha"])
    beta = jnp.where(better, found["beta"], params["beta"])
    return searched["epoch"], alpha, beta


def evaluate_meta_adapter(
    stored: StoredBank, shots: int, seeds: int, run: PublishedRun = PUBLISHED_RUN
) -> Result:
    """Train and test Meta-Adapter as its published code does, on the halves of the classes.

    The shots are val images where the data has them, as there, else train images of a draw that
    may hold training images as well. Of each class there are ``shots`` shots, training images and
    test images alike. The numbers are of the group ``novel``, told apart among all classes.
    """
    base, novel = base_novel(len(stored.class_names))
    train, test = stored.select(["train"]), stored.select(["test"])
    has_val = bool((stored.splits == SPLITS.index("val")).any())
    support = stored.select(["val"]) if has_val else train
    accuracies, best = [], []
    for seed in range(seeds):
        draw_key, run_key = jax.random.split(jax.random.fold_in(jax.random.key(SEED), seed))
        data = draw_published(
            draw_key, support, train, test, jnp.asarray(base), jnp.asarray(novel), shots
        )
        told, _ = published_accuracies(run_key, data, run)
        best.append(int(np.argmax(told)) + 1)
        accuracies.append(float(np.max(told)))
    record = {
        "split": "test",
        "rule": "as published: " + NOTES["meta_adapter"],
        "epoch": best,
        "support": "val" if has_val else "train",
        "label_space": "generalised",
    }
    saw = ("shots", "queries")
    return Result(Measured({"accuracy": np.asarray(accuracies)}, record, saw))
