"""The loop of a run: dispatches, validations, checkpoints, and stopping in good order."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.devices import largest_of_all, on_every_device, shared_mesh
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import Bank, StoredBank
from fsclip_jax.hosts import ALONE, Hosts, settle
from fsclip_jax.training.checkpoint import Best, Checkpoints, Saved, to_host
from fsclip_jax.training.config import Placement, TrainConfig
from fsclip_jax.training.metrics_log import LogRow, MetricsLog
from fsclip_jax.training.placement import Advance, fetch, from_host, place
from fsclip_jax.training.state import run_keys
from fsclip_jax.training.step import StepMetrics, make_multi_step
from fsclip_jax.training.tasks import (
    EpisodePlan,
    EpisodeSource,
    make_draw,
    make_reader,
    make_sampler,
    rows_of,
)
from fsclip_jax.training.validation import Validation, make_validate
from fsclip_jax.typing import Array, Params, PRNGKeyArray


class Episodes(NamedTuple):
    """What a run draws its episodes from; no validation where no class is held out."""

    source: EpisodeSource
    plan: EpisodePlan
    validation: Validation | None
    placement: Placement = "replicated"


def dispatch_end(step: int, config: TrainConfig) -> int:
    """Return the step at which the dispatch that begins at ``step`` ends.

    Dispatches end at the multiples of ``steps_per_dispatch``, ``eval_every`` and
    ``checkpoint_every``, wherever the run was continued: a restart repeats the same calls.

    Example:
        >>> config = TrainConfig(steps=70, steps_per_dispatch=25, eval_every=40)
        >>> [dispatch_end(step, config) for step in (0, 25, 40, 50)]
        [25, 40, 50, 70]
    """
    intervals = (config.steps_per_dispatch, config.eval_every, config.checkpoint_every)
    return min(config.steps, *(every * (step // every + 1) for every in intervals))


class Observer(NamedTuple):
    """What a run tells while it goes on.

    Attributes:
        begin: called once with the bank, the episodes and the step that the run begins from.
        stop_requested: called after every dispatch; anything but 0 ends the run in good order.
    """

    begin: Callable[[StoredBank, Episodes, int], None] = lambda *_: None
    row: Callable[[LogRow], None] = lambda *_: None
    stop_requested: Callable[[], int] = lambda: 0


SILENT = Observer()


class Store(NamedTuple):
    """Where a run is written; one process has it."""

    checkpoints: Checkpoints
    log: MetricsLog


def run_loop(
    config: TrainConfig,
    adapter: Adapter,
    episodes: Episodes,
    begin: Saved,
    store: Store | None,
    observer: Observer,
    hosts: Hosts = ALONE,
) -> tuple[Saved, int]:
    """Train from a saved state to the last step, or until an observer wants a stop.

    Args:
        store: where the last state and the best parameters are saved; None for a process that
            leaves this to another.
        hosts: who computes together; all stop at the same step.

    Returns:
        The last state, and the number of the signal that asked for a stop, 0 if none did.

    Raises:
        UserError: the loss or the gradient is not finite, or the disk is full.
    """
    mesh = shared_mesh(config.batch)
    agreed = largest_of_all(mesh)
    settle(hosts, lambda: agreed(0))
    state, key, validation = on_every_device(
        (begin.state, run_keys(config.seed).episodes, episodes.validation), mesh
    )
    advance = make_advance(adapter, config, episodes, key, mesh)
    step, best, validate = int(begin.state.step), begin.best, make_validate(adapter, mesh)
    stop = 0

    def judge(params: Params) -> float:
        return float("nan") if validation is None else float(validate(params, validation))

    def report(row: LogRow) -> None:
        if store is not None:
            store.log.write(row)
        observer.row(row)

    if best.step < 0:
        accuracy = judge(state.params)
        best = _better(best, step, accuracy, state.params)
        references = {} if validation is None else _reference_lines(validation, mesh)
        report({"step": step, "time": time.time(), "val_accuracy": accuracy, **references})
    while step < config.steps:
        before, end = time.perf_counter(), dispatch_end(step, config)
        state, metrics = advance(state, step, end)
        metrics = to_host(metrics)
        seconds = time.perf_counter() - before
        _check_finite(config, step, metrics, store)
        row = _row(end, metrics, config.batch * (end - step) / seconds)
        step, last, stop = end, end == config.steps, agreed(observer.stop_requested())
        if step % config.eval_every == 0 or last:
            row["val_accuracy"] = accuracy = judge(state.params)
            best = _better(best, step, accuracy, state.params)
        report(row)
        if store is not None and (step % config.checkpoint_every == 0 or last or stop):
            store.log.sync()
            store.checkpoints.save(Saved(to_host(state), best))
        if stop:
            break
    return Saved(to_host(state), best), stop


def make_advance(
    adapter: Adapter, config: TrainConfig, episodes: Episodes, key: PRNGKeyArray, mesh: Mesh
) -> Advance:
    """Return the function that takes steps, wherever the features of the bank lie."""
    source, plan, _, placement = episodes
    draw, read = make_draw(plan, config.batch, mesh), make_reader(config.batch, mesh)
    data = place(source, placement, mesh)

    def from_shares(key: PRNGKeyArray, bank: Bank, features: Array) -> tuple[Task, Query]:
        drawn = draw(key, bank)
        return read(key, bank, drawn, fetch(features, rows_of(drawn), mesh))

    sample: Callable[..., tuple[Task, Query]] = from_shares if placement == "sharded" else read
    if placement == "replicated":
        sample = make_sampler(plan, config.batch, mesh)
    multi_step = make_multi_step(adapter, config, sample, mesh)
    if placement == "host":
        assert source.rows is not None
        return from_host(multi_step, draw, data[0], source.rows, config.steps, key, mesh)
    return lambda state, first, end: multi_step(state, key, data, steps=end - first)


def _row(step: int, metrics: StepMetrics, rate: float) -> LogRow:
    """One row of the log: means over a dispatch, and the learning rate of its last step."""
    return {
        "step": step,
        "time": time.time(),
        "loss": float(metrics.loss.mean()),
        "accuracy": float(metrics.accuracy.mean()),
        "lr": float(metrics.lr[-1]),
        "grad_norm": float(metrics.grad_norm.mean()),
        "episodes_per_second": rate,
    }


def _better(best: Best, step: int, accuracy: float, params: Params) -> Best:
    """The newer parameters if they are more accurate, or if there is nothing to tell by."""
    if np.isnan(accuracy) or best.step < 0 or accuracy > best.accuracy:
        return Best(np.array(step, np.int32), np.array(accuracy, np.float32), to_host(params))
    return best


def _reference_lines(validation: Validation, mesh: Mesh) -> LogRow:
    """Accuracies that training must exceed to be worth it, on the same episodes."""
    lines: LogRow = {}
    dim = validation.support.bank.features.shape[-1]
    for name in ("zero_shot", "text_prototype"):
        adapter = get_adapter(name)
        params = jax.tree.map(np.asarray, adapter.init(jax.random.key(0), dim))
        lines[f"val_{name}"] = float(make_validate(adapter, mesh)(params, validation))
    return lines


def _check_finite(
    config: TrainConfig, step: int, metrics: StepMetrics, store: Store | None
) -> None:
    bad = np.flatnonzero(~np.isfinite(metrics.loss) | ~np.isfinite(metrics.grad_norm))
    if len(bad):
        saved = None if store is None else store.checkpoints.latest_step()
        kept = (
            "no checkpoint was made yet"
            if saved is None
            else f"the checkpoint of step {saved} is kept"
        )
        raise UserError(
            f"the loss or its gradient is not finite at step {step + int(bad[0]) + 1} ({kept}): "
            f"train anew with a --learning-rate below {config.learning_rate:g}, "
            "or look for bad features by `fsclip bank show`"
        )
