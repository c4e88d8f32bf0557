"""A run from its configuration to the trained adapter: begin, continue, or find it done."""

import contextlib
import dataclasses
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fsclip_jax.adapters.base import Adapter, reads_patches
from fsclip_jax.adapters.checkpoint import save_adapter
from fsclip_jax.devices import shared_mesh
from fsclip_jax.durable import storage_errors
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.easy_hard import easy_hard, zero_shot_by_class
from fsclip_jax.fitting.inputs import text_missing
from fsclip_jax.hosts import ALONE, Hosts
from fsclip_jax.training.checkpoint import (
    Checkpoints,
    Saved,
    first_best,
    packed,
    to_host,
    unpacked,
)
from fsclip_jax.training.config import TrainConfig, check_train_config
from fsclip_jax.training.loop import SILENT, Episodes, Observer, Store, run_loop
from fsclip_jax.training.method import check_width, make_adapter
from fsclip_jax.training.metrics_log import METRICS_FILE, MetricsLog, read_metrics
from fsclip_jax.training.placement import Size, choose_placement
from fsclip_jax.training.state import can_prime, init_state, prime
from fsclip_jax.training.tasks import choose_classes, training_episodes, whole_task
from fsclip_jax.training.validation import validation_episodes
from fsclip_jax.training.workdir import check_same, locked, read_run, run_record, write_run


class TrainOutcome(NamedTuple):
    """How a run ended.

    Attributes:
        val_accuracy: theirs, in percent; NaN where no class was held out.
        stopped: the number of the signal that asked for a stop, 0 if none did.
    """

    step: int
    best_step: int
    val_accuracy: float
    references: dict[str, float]
    was_done: bool
    stopped: int = 0


def train(
    config: TrainConfig,
    workdir: Path,
    open_stored: Callable[[], StoredBank],
    observer: Observer = SILENT,
    hosts: Hosts = ALONE,
) -> TrainOutcome:
    """Meta-train an adapter in a workdir.

    Args:
        open_stored: opens the bank, or extracts it; not called where the run is done already.
        hosts: who trains together, all with the same arguments. Process 0 alone reads and writes
            the workdir, which the others need not see.

    Returns:
        How it ended. ``step < config.steps`` means that a stop was requested.

    Raises:
        UserError: wrong input; a workdir of another or an unfinished run; a loss that is not
            finite; a full disk; a process that was lost. The workdir can be resumed from its last
            checkpoint.
    """
    check_train_config(config)
    adapter = make_adapter(config)
    if (place := str(workdir.absolute())).encode("utf-8", "replace").decode() != place:
        raise UserError(
            f"--workdir {workdir} is no UTF-8, and orbax writes nowhere else; rename it"
        )
    with hosts.failing_together():
        if hosts.count > 1:
            shared_mesh(config.batch)  # refuses what cannot be shared
        hosts.same("configuration", run_record(config))
        if hosts.index:
            return _take_part(config, adapter, open_stored, observer, hosts)
        with locked(workdir), contextlib.closing(Checkpoints(workdir)) as checkpoints:
            outcome = _lead(config, workdir, open_stored, observer, hosts, checkpoints)
        hosts.tell("finished")
        return outcome


def _lead(
    config: TrainConfig,
    workdir: Path,
    open_stored: Callable[[], StoredBank],
    observer: Observer,
    hosts: Hosts,
    checkpoints: Checkpoints,
) -> TrainOutcome:
    """Train as the process that reads and writes the workdir."""
    adapter, before = make_adapter(config), read_run(workdir)
    begin = _continued(config, workdir, adapter, checkpoints, before)
    if begin is not None and before is not None and begin.state.step >= config.steps:
        hosts.tell("start", "done")
        return _finish(config, workdir, adapter, begin, before, was_done=True)
    hosts.tell("start")
    stored, facts = _opened(adapter, open_stored)
    step = None
    if begin is not None and before is not None:
        check_same(workdir, {name: before.get(name) for name in facts}, facts, "bank")
        episodes, step = _episodes(stored, config, adapter, hosts), int(begin.state.step)
    else:
        begin = _blank(config, adapter, stored.dim)
        episodes = _episodes(stored, config, adapter, hosts)
        begin = _primed(begin, adapter, episodes)
    hosts.same("bank", _told(facts, episodes, hosts))
    hosts.tell("state", packed(begin))
    write_run(workdir, config, facts)
    observer.begin(stored, episodes, step or 0)
    with MetricsLog(workdir, step) as log:
        store = Store(checkpoints, log)
        saved, stop = run_loop(config, adapter, episodes, begin, store, observer, hosts)
    return _finish(config, workdir, adapter, saved, facts)._replace(stopped=stop)


def _take_part(
    config: TrainConfig,
    adapter: Adapter,
    open_stored: Callable[[], StoredBank],
    observer: Observer,
    hosts: Hosts,
) -> TrainOutcome:
    """Train as a process that writes nothing: the state is that of process 0 at every step."""
    stop, done = 0, hosts.hear("start")
    if not done:
        stored, facts = _opened(adapter, open_stored)
        episodes = _episodes(stored, config, adapter, hosts)
        hosts.same("bank", _told(facts, episodes, hosts))
        begin = unpacked(hosts.hear("state"), _blank(config, adapter, stored.dim))
        observer.begin(stored, episodes, int(begin.state.step))
        saved, stop = run_loop(config, adapter, episodes, begin, None, observer, hosts)
    hosts.hear("finished")
    if done:
        return TrainOutcome(config.steps, config.steps, float("nan"), {}, was_done=True)
    step, best = int(saved.state.step), saved.best
    return TrainOutcome(step, int(best.step), float(best.accuracy), {}, False, stop)


def _opened(
    adapter: Adapter, open_stored: Callable[[], StoredBank]
) -> tuple[StoredBank, dict[str, Any]]:
    """Open the bank if it goes with the adapter."""
    stored = open_stored()
    if why := text_missing(stored).get("text"):
        raise UserError(f"fsclip train learns adapters of text features, and {why}")
    check_width(adapter, stored.dim)
    return stored, _facts(stored, adapter)


def _told(facts: dict[str, Any], episodes: Episodes, hosts: Hosts) -> dict[str, Any]:
    """What the processes compare: the facts, and a sum of every number to train on.

    Features that are not read now are those of files of the same sums.
    """
    if hosts.count == 1:
        return facts
    rows = episodes.source.rows
    total = 0 if rows is None else zlib.crc32(json.dumps(rows.stored.manifest["files"]).encode())
    source = episodes.source._replace(rows=None)
    for leaf in jax.tree.leaves((source, episodes.validation)):
        total = zlib.crc32(np.asarray(leaf).tobytes(), total)
    return {**facts, "sum": total}


def _continued(
    config: TrainConfig,
    workdir: Path,
    adapter: Adapter,
    checkpoints: Checkpoints,
    before: dict[str, Any] | None,
) -> Saved | None:
    """What an earlier run of the same configuration saved; None where there is no checkpoint."""
    if checkpoints.latest_step() is None:
        return None
    if before is None:
        raise UserError(
            f"{workdir} holds checkpoints but no config.json of a run: give another --workdir, "
            "or delete that folder"
        )
    check_same(workdir, before["config"], run_record(config))
    saved = checkpoints.restore(_shapes(config, adapter, before["dim"]))
    if saved.state.step < config.steps and not config.resume:
        raise UserError(
            f"{workdir} holds this run, unfinished at step {int(saved.state.step)} of "
            f"{config.steps}: add --resume to continue it, or delete that folder to begin anew"
        )
    return saved


def _blank(config: TrainConfig, adapter: Adapter, dim: int) -> Saved:
    state = to_host(init_state(adapter, dim, config))
    return Saved(state, first_best(state.params))


def _shapes(config: TrainConfig, adapter: Adapter, dim: int) -> Saved:
    """Like ``_blank``, without memory: the width that a file tells may be any."""
    traced = jax.eval_shape(lambda: init_state(adapter, dim, config))
    state = jax.tree.map(lambda leaf: np.broadcast_to(np.zeros((), leaf.dtype), leaf.shape), traced)
    return Saved(state, first_best({})._replace(params=state.params))


def _primed(begin: Saved, adapter: Adapter, episodes: Episodes) -> Saved:
    if not can_prime(adapter):
        return begin
    state = to_host(prime(adapter, begin.state, whole_task(episodes.source)))
    return Saved(state, first_best(state.params))


def _facts(stored: StoredBank, adapter: Adapter) -> dict[str, Any]:
    """What a run is made with, beside its configuration; a continuation must find it again."""
    prompts = stored.manifest.get("prompt_file")
    return {
        "adapter": {"method": adapter.name, **dataclasses.asdict(adapter)},  # type: ignore[call-overload]
        "backbone": dict(stored.manifest["backbone"]),
        "data": dict(stored.manifest["data"]),
        **({"prompt_file": prompts} if prompts else {}),
        "dim": stored.dim,
        "views": stored.views,
        "n_classes": len(stored.class_names),
    }


def _episodes(stored: StoredBank, config: TrainConfig, adapter: Adapter, hosts: Hosts) -> Episodes:
    patches = stored.patches > 0 and reads_patches(adapter)
    easy = easy_hard(zero_shot_by_class(stored))[0] if config.classes == "easy" else None
    train_ids, val_ids = choose_classes(len(stored.class_names), config.classes, easy)
    whole = "patches must be read beside the features" if patches else ""
    if can_prime(adapter):
        whole = f"{adapter.name} starts from all images at once"
    count = len(stored.sorted_rows(("train",), train_ids)[0])
    prompts = 0 if stored.prompt_features is None else len(stored.prompt_features)
    size = Size(stored.views, count, stored.dim, len(train_ids), prompts)
    mesh = shared_mesh(config.batch)
    placement = choose_placement(config.bank_placement, size, mesh, hosts, whole=whole)
    source, plan = training_episodes(
        stored, config, train_ids, patches=patches, placement=placement
    )
    validation = validation_episodes(stored, config, val_ids, patches=patches, placement=placement)
    return Episodes(source, plan, validation, placement)


def _finish(
    config: TrainConfig,
    workdir: Path,
    adapter: Adapter,
    saved: Saved,
    facts: dict[str, Any],
    *,
    was_done: bool = False,
) -> TrainOutcome:
    """Write the trained adapter, if the run is at its end."""
    step, best_step = int(saved.state.step), int(saved.best.step)
    accuracy = float(saved.best.accuracy)
    if step >= config.steps:
        meta = {
            "backbone": facts["backbone"].get("id"),
            "backbone_sha256": facts["backbone"].get("sha256"),
            "dim": facts["dim"],
            "data": facts["data"],
            "val_accuracy": None if accuracy != accuracy else round(accuracy, 4),
            "step": best_step,
            "train": run_record(config),
        }
        with storage_errors(workdir):
            save_adapter(workdir, adapter.name, saved.best.params, meta, adapter=adapter)
    return TrainOutcome(step, best_step, accuracy, _references(workdir), was_done)


def _references(workdir: Path) -> dict[str, float]:
    rows = read_metrics(workdir / METRICS_FILE, 0)
    first = rows[0] if rows else {}
    named = {"untrained": first.get("val_accuracy")}
    named |= {name: first.get(f"val_{name}") for name in ("zero_shot", "text_prototype")}
    return {name: value for name, value in named.items() if value is not None}
