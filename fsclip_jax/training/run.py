"""A run from its configuration to the trained adapter: begin, continue, or find it done."""

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fsclip_jax.adapters.base import Adapter, needs_of, reads_patches
from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.checkpoint import save_adapter
from fsclip_jax.durable import storage_errors
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.easy_hard import easy_hard, zero_shot_by_class
from fsclip_jax.fitting.methods import text_missing
from fsclip_jax.training.checkpoint import Checkpoints, Saved, first_best, to_host
from fsclip_jax.training.config import TrainConfig, check_train_config
from fsclip_jax.training.loop import SILENT, Episodes, Observer, run_loop
from fsclip_jax.training.metrics_log import METRICS_FILE, MetricsLog, read_metrics
from fsclip_jax.training.state import can_prime, init_state, prime
from fsclip_jax.training.tasks import (
    choose_classes,
    training_episodes,
    validation_episodes,
    whole_task,
)
from fsclip_jax.training.workdir import check_same, locked, read_run, run_record, write_run


class TrainOutcome(NamedTuple):
    """How a run ended.

    Attributes:
        val_accuracy: theirs, in percent; NaN where no class was held out.
    """

    step: int
    best_step: int
    val_accuracy: float
    references: dict[str, float]
    was_done: bool


def make_adapter(config: TrainConfig) -> Adapter:
    """Return the method to train, with its static fields.

    Raises:
        UserError: an unknown method, a field that it does not have, a value of another type, or
            a method that needs the text tower.

    Example:
        >>> make_adapter(TrainConfig(fields=("heads=2", "text_in_keys=false")))
        MetaAdapter(heads=2, text_in_keys=False)
    """
    adapter = get_adapter(config.method)
    given: dict[str, Any] = {}
    for pair in config.fields:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--fields {pair} is not NAME=VALUE, such as heads=4")
        given[name] = _value(config.method, name, text, getattr(adapter, name, None))
    if "words" in needs_of(adapter):
        raise UserError(
            f"--method {config.method} learns through the text tower, which episodes do not carry; "
            f"compare it with `fsclip eval --methods {config.method}`"
        )
    return get_adapter(config.method, **given)


def _value(method: str, name: str, text: str, default: Any) -> Any:
    """Read a field as the type of its default; a field that is not there is refused later."""
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text) if kind in (int, float) else text
    except (KeyError, ValueError):
        accepted = "true or false" if kind is bool else f"a number, like {default}"
        raise UserError(f"--fields {name}={text}: {name} of {method} is {accepted}") from None


def _check_width(adapter: Adapter, dim: int) -> None:
    """Refuse fields that features of this width do not go with, such as a number of heads."""
    task, _ = example_task(way=2, shot=1, query=1, dim=dim)

    def fit() -> Any:
        key = jax.random.key(0)
        return adapter.fit(adapter.init(key, dim), task, key)

    try:
        jax.eval_shape(fit)
    except ValueError as error:
        raise UserError(f"--method {adapter.name}: {error}; give --fields that fit") from None


def train(
    config: TrainConfig,
    workdir: Path,
    open_stored: Callable[[], StoredBank],
    observer: Observer = SILENT,
) -> TrainOutcome:
    """Meta-train an adapter in a workdir.

    Args:
        open_stored: opens the bank, or extracts it; not called where the run is done already.

    Returns:
        How it ended. ``step < config.steps`` means that a stop was requested.

    Raises:
        UserError: wrong input; a workdir of another or an unfinished run; a loss that is not
            finite; a full disk. The workdir can be resumed from its last checkpoint.
    """
    check_train_config(config)
    adapter = make_adapter(config)
    if (place := str(workdir.absolute())).encode("utf-8", "replace").decode() != place:
        raise UserError(
            f"--workdir {workdir} is no UTF-8, and orbax writes nowhere else; rename it"
        )
    with locked(workdir), contextlib.closing(Checkpoints(workdir)) as checkpoints:
        before = read_run(workdir)
        begin = _continued(config, workdir, adapter, checkpoints, before)
        if begin is not None and before is not None and begin.state.step >= config.steps:
            return _finish(config, workdir, adapter, begin, before, was_done=True)

        stored = open_stored()
        if why := text_missing(stored).get("text"):
            raise UserError(f"fsclip train learns adapters of text features, and {why}")
        _check_width(adapter, stored.dim)
        facts = _facts(stored, adapter)
        step = None
        if begin is not None and before is not None:
            check_same(workdir, {name: before.get(name) for name in facts}, facts, "bank")
            episodes, step = _episodes(stored, config, adapter), int(begin.state.step)
        else:
            begin = _blank(config, adapter, stored.dim)
            episodes = _episodes(stored, config, adapter)
            begin = _primed(begin, adapter, episodes)
        write_run(workdir, config, facts)
        observer.begin(stored, episodes, step or 0)
        with MetricsLog(workdir, step) as log:
            saved = run_loop(config, adapter, episodes, begin, checkpoints, log, observer)
        return _finish(config, workdir, adapter, saved, facts)


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


def _episodes(stored: StoredBank, config: TrainConfig, adapter: Adapter) -> Episodes:
    patches = stored.patches > 0 and reads_patches(adapter)
    easy = easy_hard(zero_shot_by_class(stored))[0] if config.classes == "easy" else None
    train_ids, val_ids = choose_classes(len(stored.class_names), config.classes, easy)
    source, plan = training_episodes(stored, config, train_ids, patches=patches)
    validation = validation_episodes(stored, config, val_ids, patches=patches)
    return Episodes(source, plan, validation)


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
