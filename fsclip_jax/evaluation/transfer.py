"""From one data set to others: adapters and settings of a source, evaluated on targets.

``cross_dataset``
    A target has classes of its own. Its train images give the shots; all that is learned or
    searched beyond a task comes from the source, so nobody tunes on a target.
``domain_shift``
    A target has other pictures of the source's classes: the classifier is made of shots of the
    source, and only the queries are of the target. They are told apart among the classes that it
    has. Without targets the artist families of the query images are the targets.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import reads_patches
from fsclip_jax.data.splits import SPLITS, TRAIN
from fsclip_jax.episodes.task import Query
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.draws import bank_rows
from fsclip_jax.evaluation.label_spaces import Group, LabelSpace, check_splits, label_spaces
from fsclip_jax.evaluation.measure import choose, evaluate
from fsclip_jax.evaluation.naming import data_title, unlike_names
from fsclip_jax.evaluation.prepare import (
    Setting,
    largest_train_class,
    part_of,
    prepare,
    supports_of,
)
from fsclip_jax.evaluation.progress import SILENT, Watch, step_line
from fsclip_jax.evaluation.protocols import Outcome, groups_of, keep, short_of, step_of
from fsclip_jax.evaluation.results import Result, Results, mean_results, rows_from
from fsclip_jax.evaluation.spread import Found, spread
from fsclip_jax.evaluation.targets import Target, match_classes
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.methods import Method
from fsclip_jax.hosts import ALONE, Hosts
from fsclip_jax.report.measured import AVERAGE, Place
from fsclip_jax.report.shots import Shots, in_order


class Shape(NamedTuple):
    """What all settings of a transfer share."""

    config: EvalConfig
    source: StoredBank
    patches: bool


def run_transfer(
    config: EvalConfig,
    source: StoredBank,
    targets: Sequence[Target],
    methods: Sequence[Method],
    watch: Watch = SILENT,
    engine: Engine | None = None,
    hosts: Hosts = ALONE,
) -> Outcome:
    """Evaluate methods on targets with what the source gave.

    Of every method and number of shots one setting is chosen on the source, for all draws
    together: on its val images, or on held-out shots of it. It is used on every target as it is.
    Rows are of the source (if it has query images of its own), of every target, and their
    ``average``, taken draw by draw.

    Raises:
        UserError: a target does not have the images or shots that are needed.
    """
    shots = in_order(config.shots)
    banks = [source, *(target.stored for target in targets)]
    patches = all(bank.patches for bank in banks) and any(reads_patches(m.adapter) for m in methods)
    shape = Shape(config, source, patches)
    watch.begin(len(methods))
    watch.now(f"drawing shots of {config.data}")
    start = _source(shape)
    settings = {
        target.name: _target(shape, target, place if config.targets else 0, start.space)
        for place, target in enumerate(targets, 1)
    }
    engine, results = engine or Engine(), dict[Place, Result]()

    def work(unit: tuple[Method, Shots]) -> Found:
        method, shot = unit
        watch.now(f"{step_of(methods, method)}: {', '.join(settings)}")
        choice = choose(engine, config, start, method, shot)
        found: dict[str, Result] = {}
        for setting in (start, *settings.values()):
            found |= evaluate(engine, config, setting, method, shot, choice)
        return found

    each = spread(hosts, "targets", [(m, shot) for m in methods for shot in shots], work)
    for method in methods:
        step = step_of(methods, method)
        of_method = {(name, shot): one for shot in shots for name, one in next(each).items()}
        watch.ended(step_line(step, shots, of_method))
        results |= {(name, method.name, k): result for (name, k), result in of_method.items()}
    if len(targets) > 1:
        results |= mean_results(results, AVERAGE, list(settings))
    queried = [setting for setting in (start, *settings.values()) if setting.queries]
    # Families are images of the source, so they add no data set.
    others = targets if config.targets else ()
    return _outcome(shape, others, queried, results)


def _outcome(
    shape: Shape,
    targets: Sequence[Target],
    settings: Sequence[Setting],
    results: Results,
) -> Outcome:
    config = shape.config
    data = [(config.data, shape.source.keys), *((t.spec, t.stored.keys) for t in targets)]
    parts = [setting.part for setting in settings if setting.part is not None]
    groups = {name: fact for setting in settings for name, fact in groups_of(setting).items()}
    short = {k: sum(short_of(setting, k) for setting in settings) for k in in_order(config.shots)}
    facts: dict[str, Any] = {
        "n_query": sum(group["n_query"] for group in groups.values()),
        "groups": groups,
        "targets": [_described(target) for target in targets],
        "classes_short_of_shots": {str(k): count for k, count in short.items() if count},
    }
    return Outcome(rows_from(results), facts, keep(config, data, parts, results))


def _described(target: Target) -> dict[str, Any]:
    data = target.stored.manifest["data"]
    return {
        "name": target.name,
        "title": data_title(target.spec, str(data.get("spec"))),
        "spec": target.spec,
        "source": data.get("spec"),
        "version": data.get("version"),
        "n_classes": len(target.stored.class_names),
    }


def _source(shape: Shape) -> Setting:
    """All classes of the source, with its val images if settings are chosen on them."""
    config, source = shape.config, shape.source
    (space,) = label_spaces(config, len(source.class_names))
    (name,) = unlike_names([config.data])
    named = LabelSpace(space.classes, (Group(name, space.classes),))
    on_val = check_splits(config, source) and config.select == "val"
    setting = prepare(config, source, named, on_val, patches=shape.patches)
    setting = setting._replace(source=name)
    if config.targets:
        return setting
    # The targets are families of the source: its query images are theirs.
    return setting._replace(space=LabelSpace(space.classes, ()), queries={}, part=None)


def _target(shape: Shape, target: Target, place: int, space: LabelSpace) -> Setting:
    """The classes of a target, with its query images; ``place`` is that of its data set."""
    config, stored = shape.config, target.stored
    if not (stored.splits == SPLITS.index(config.query_split)).any():
        raise UserError(f"the target {target.spec} has no {config.query_split} images to ask")
    if config.protocol == "domain_shift":
        return _shifted(shape, target, place, space)
    if not (stored.splits == TRAIN).any():
        raise UserError(f"the target {target.spec} has no train images to draw shots from")
    ids = np.arange(len(stored.class_names), dtype=np.int32)
    whole = LabelSpace(ids, (Group(target.name, ids),))
    try:
        setting = prepare(config, stored, whole, False, patches=shape.patches)
    except UserError as error:
        raise UserError(f"target {target.spec}: {error}") from None
    assert setting.part is not None
    (_, rows, labels) = setting.part.groups[target.name]
    groups = {target.name: (place, rows, labels)}
    return setting._replace(part=setting.part._replace(data=place, groups=groups))


def _shifted(shape: Shape, target: Target, place: int, space: LabelSpace) -> Setting:
    """Shots of the source for the classes that the target has, and images of the target."""
    config, source, stored = shape.config, shape.source, target.stored
    has_queries = stored.splits == SPLITS.index(config.query_split)
    there = set(np.unique(stored.labels[has_queries]).tolist())
    within = set(space.classes.tolist())
    match = match_classes(source, stored) if config.targets else {c: c for c in there}
    pairs = sorted((ours, c) for c, ours in match.items() if c in there and ours in within)
    if len(pairs) < 2:
        raise UserError(
            f"{len(pairs)} classes of {target.spec} are among those of {config.data}; domain_shift "
            "wants two or more: give a target with the same class names or WordNet ids"
        )
    ids = np.array([ours for ours, _ in pairs], np.int32)
    theirs = np.array([c for _, c in pairs], np.int32)
    few = LabelSpace(ids, (Group(target.name, ids),))
    found = supports_of(config, source, few)
    bank = stored.select([config.query_split], theirs, patches=shape.patches)
    query = Query(bank.features[0], bank.labels, jnp.ones(bank.labels.shape, bool), bank.patches)
    part = part_of(source, few, found)
    rows = bank_rows(stored, [config.query_split], theirs)
    part.groups[target.name] = (place, rows, np.asarray(bank.labels))
    largest = largest_train_class(source)
    queries = {target.name: query}
    return Setting(few, found.most, queries, None, largest, part, "", found.others)
