"""The comparison itself: every method on the same draws and the same images."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from fsclip_jax.adapters.base import needs_of, reads_patches
from fsclip_jax.evaluation.as_published import SUFFIX, evaluate_meta_adapter
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.label_spaces import check_splits, class_halves, label_spaces
from fsclip_jax.evaluation.measure import called, evaluate
from fsclip_jax.evaluation.pictures import NO_INPUTS, Inputs, pictured
from fsclip_jax.evaluation.predictions import Part, StoredPredictions, assemble
from fsclip_jax.evaluation.prepare import Setting, prepare
from fsclip_jax.evaluation.progress import SILENT, Watch, step_line
from fsclip_jax.evaluation.results import (
    Result,
    Results,
    harmonic_results,
    kept_predictions,
    rows_from,
)
from fsclip_jax.evaluation.spread import Found, spread
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.inputs import PROJECTION, TOWERS
from fsclip_jax.fitting.methods import Method
from fsclip_jax.hosts import ALONE, Hosts
from fsclip_jax.report.measured import Place
from fsclip_jax.report.rows import Row
from fsclip_jax.report.shots import Shots, in_order, mean_shots


class Outcome(NamedTuple):
    """What an evaluation found; ``predictions`` is None where they are not kept."""

    rows: tuple[Row, ...]
    facts: dict[str, Any]
    predictions: StoredPredictions | None


def run_protocol(
    config: EvalConfig,
    stored: StoredBank,
    methods: Sequence[Method],
    watch: Watch = SILENT,
    inputs: Inputs = NO_INPUTS,
    engine: Engine | None = None,
    hosts: Hosts = ALONE,
) -> Outcome:
    """Evaluate the methods, each at each number of shots on one of the hosts.

    Raises:
        UserError: the data does not have the images or shots that were asked for.
    """
    shots = in_order(config.shots)
    on_val = check_splits(config, stored) and config.select == "val"
    results: dict[Place, Result] = {}
    facts: dict[str, Any] = {"n_query": 0, "groups": {}}
    engine, short = engine or Engine(), dict.fromkeys(shots, 0)
    parts: list[Part] = []
    patches = stored.patches > 0 and any(reads_patches(method.adapter) for method in methods)
    halves = class_halves(config, stored)
    spaces = label_spaces(config, len(stored.class_names), halves)
    watch.begin(len(spaces) * len(methods) + ("meta_adapter" in config.as_published))
    for space in spaces:
        watch.now(f"drawing shots of {len(space.classes)} classes")
        setting = prepare(config, stored, space, on_val, inputs.words, patches=patches)
        if setting.part is not None:
            parts.append(setting.part)
            for shot in shots:
                short[shot] += short_of(setting, shot)
        facts["groups"] |= groups_of(setting)
        units = [(method, shot) for method in methods for shot in shots]

        seen_by = settings_by_need(config, stored, setting, inputs)

        def work(
            unit: tuple[Method, Shots],
            setting: Setting = setting,
            seen_by: Callable[[Method], Setting] = seen_by,
        ) -> Found:
            method, shot = unit
            watch.now(f"{step_of(methods, method)}: {called(setting)}")
            return evaluate(engine, config, seen_by(method), method, shot)

        each = spread(hosts, f"space {','.join(setting.queries)}", units, work)
        for method in methods:
            found = {(group, shot): one for shot in shots for group, one in next(each).items()}
            step = step_of(methods, method)
            watch.ended(step_line(step, shots, found))
            results |= {(group, method.name, shot): found[group, shot] for group, shot in found}
    if "meta_adapter" in config.as_published:
        watch.now("meta_adapter as published")
        name = "meta_adapter" + SUFFIX
        found = {
            ("novel", k): evaluate_meta_adapter(stored, mean_shots(k), config.seeds) for k in shots
        }
        watch.ended(step_line(name, shots, found))
        results |= {(group, name, shot): found[group, shot] for group, shot in found}
    if config.protocol == "cross_category":
        results |= harmonic_results(results)
    facts["classes_short_of_shots"] = {str(shot): n for shot, n in short.items() if n}
    facts["n_query"] = sum(group["n_query"] for group in facts["groups"].values())
    predictions = keep(config, [(config.data, stored.keys)], parts, results)
    return Outcome(rows_from(results), facts, predictions)


def settings_by_need(
    config: EvalConfig, stored: StoredBank, setting: Setting, inputs: Inputs
) -> Callable[[Method], Setting]:
    """Return the setting as a method sees it: the same draws of the same images, made once."""

    @functools.cache
    def as_needed(need: str) -> Setting:
        if need == PROJECTION:
            return prepare(config, stored.on("raw"), setting.space, False)
        if need == TOWERS:
            return pictured(setting, inputs.pictures, stored.views)
        return setting

    def seen_by(method: Method) -> Setting:
        (need,) = needs_of(method.adapter) & {PROJECTION, TOWERS} or {""}
        return as_needed(need)

    return seen_by


def step_of(methods: Sequence[Method], method: Method) -> str:
    """Say which method of how many it is."""
    return f"method {methods.index(method) + 1} of {len(methods)}, {method.name}"


def keep(
    config: EvalConfig,
    data: Sequence[tuple[str, Sequence[str]]],
    parts: Sequence[Part],
    results: Results,
) -> StoredPredictions | None:
    """Gather the predictions, if they are to be kept; of episodes there are no ``parts``."""
    if not config.predictions or not parts:
        return None
    ways = {name: len(part.classes) for part in parts for name in part.groups}
    return assemble(data, parts, kept_predictions(results, ways))


def groups_of(setting: Setting) -> dict[str, dict[str, int]]:
    """Say how many classes and images each group has."""
    ids = {group.name: len(group.classes) for group in setting.space.groups}
    return {
        name: {"n_classes": ids[name], "n_query": int(query.mask.sum())}
        for name, query in setting.queries.items()
    }


def short_of(setting: Setting, shots: Shots) -> int:
    """Count the classes that have fewer shots than so many; none of imbalanced ones is short."""
    draws = setting.others.get(shots, setting.draws)
    held = np.asarray(draws.task.support_mask[0].sum(-1))
    return 0 if isinstance(shots, str) else int((held < shots).sum())
