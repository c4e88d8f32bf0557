"""From one data set to others: adapters and settings of a source, evaluated on targets.

``cross_dataset``
    A target has classes of its own. Its train images give the shots; all that is learned or
    searched beyond a task comes from the source, so nobody tunes on a target.
``domain_shift``
    A target has other pictures of the source's classes: the classifier is made of shots of the
    source, and only the images that are asked are of the target. It is asked among the classes
    that it has. Without targets the artist families of the test images are the targets.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import reads_patches
from fsclip_jax.data.splits import SPLITS, TRAIN
from fsclip_jax.episodes.task import Query
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.draws import bank_rows, draw_supports
from fsclip_jax.evaluation.label_spaces import Group, LabelSpace, check_splits, label_spaces
from fsclip_jax.evaluation.measure import choose, evaluate
from fsclip_jax.evaluation.naming import unlike_names
from fsclip_jax.evaluation.prepare import (
    SUPPORT_SEED,
    Setting,
    check_train,
    largest_train_class,
    part_of,
    prepare,
)
from fsclip_jax.evaluation.protocols import Outcome, groups_of, keep, short_of
from fsclip_jax.evaluation.results import Result, mean_results, rows_of
from fsclip_jax.features.bank import StoredBank, select_bank
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.methods import Method

AVERAGE = "average"
"""Name of the mean over the targets."""

_SYNSET = re.compile(r"(?<![a-z0-9])n\d{8}(?!\d)")


class Target(NamedTuple):
    """A data set to evaluate on.

    Attributes:
        name: of its rows in the report.
        spec: as it was asked for.
        stored: its bank.
    """

    name: str
    spec: str
    stored: StoredBank


def targets_of(
    config: EvalConfig, source: StoredBank, stored: Sequence[StoredBank]
) -> tuple[Target, ...]:
    """Name the targets; without any, those of ``domain_shift`` are the held-out families.

    Args:
        config: what to evaluate.
        source: bank of the source.
        stored: banks of ``config.targets``.

    Returns:
        The targets, each with a name of its own, none called as the source.

    Raises:
        UserError: there are no targets and no families, or a bank is of another backbone.
    """
    if not config.targets:
        return _families(config, source)
    names = unlike_names([config.data, AVERAGE, *config.targets])[2:]
    for spec, other in zip(config.targets, stored, strict=True):
        sums = [bank.manifest["backbone"].get("sha256") for bank in (source, other)]
        if other.dim != source.dim or (all(sums) and sums[0] != sums[1]):
            raise UserError(
                f"the features of {spec} are of another backbone than those of {config.data}; "
                "make both banks with one backbone"
            )
    return tuple(map(Target, names, config.targets, stored))


def _families(config: EvalConfig, source: StoredBank) -> tuple[Target, ...]:
    """The artist families of the query images, each as a bank that holds nothing else."""
    if source.domains is None:
        raise UserError(
            f"{config.data} has no artist families to hold out; give --targets with the data "
            "sets to evaluate on"
        )
    asked = source.splits == SPLITS.index(config.query_split)
    found = []
    for family in np.unique(source.domains[asked]).tolist():
        splits = np.where(asked & (source.domains == family), source.splits, -1)
        stored = dataclasses.replace(source, splits=splits.astype(source.splits.dtype))
        found.append(Target(source.domain_names[family], config.data, stored))
    return tuple(found)


def match_classes(source: StoredBank, target: StoredBank) -> dict[int, int]:
    """Find the classes of a target among those of the source.

    By WordNet id where the keys of both banks say one for every class (ImageNet's folders are
    called so), else by name; case, ``_`` and ``-`` in names do not matter.

    Args:
        source: bank of the source.
        target: bank of the target.

    Returns:
        Class of the source by class of the target. A name that two classes of a bank share
        matches nothing.
    """
    ours, theirs = _synsets(source), _synsets(target)
    if ours is None or theirs is None:
        ours = [_plain(name) for name in source.class_names]
        theirs = [_plain(name) for name in target.class_names]
    place = {name: label for label, name in enumerate(ours) if ours.count(name) == 1}
    return {
        label: place[name]
        for label, name in enumerate(theirs)
        if name in place and theirs.count(name) == 1
    }


def _plain(name: str) -> str:
    return " ".join(re.sub(r"[_-]", " ", name).casefold().split())


def _synsets(stored: StoredBank) -> list[str] | None:
    """WordNet id of every class, None unless each has one in the key of its first image."""
    labels, first = np.unique(stored.labels, return_index=True)
    if len(labels) != len(stored.class_names):
        return None
    found = [_SYNSET.search(stored.keys[row]) for row in first.tolist()]
    ids = [match.group() for match in found if match]
    return ids if len(set(ids)) == len(labels) else None


def run_transfer(
    config: EvalConfig,
    source: StoredBank,
    targets: Sequence[Target],
    methods: Sequence[Method],
    progress: Callable[[str], None] = lambda _: None,
    engine: Engine | None = None,
) -> Outcome:
    """Evaluate methods on targets with what the source gave.

    Of every method and number of shots one setting is chosen on the source, for all draws
    together: on its val images, or on held-out shots of it. It is used on every target as it is.

    Args:
        config: what to evaluate.
        source: bank of the source.
        targets: from :func:`targets_of`.
        methods: the methods.
        progress: told a line before every piece of work.
        engine: keeps what was compiled.

    Returns:
        Rows of the source (if it has query images of its own), of every target, and their
        ``average``, taken draw by draw; facts about the draws; and the answers.

    Raises:
        UserError: a target does not have the images or shots that are needed.
    """
    engine, shots = engine or Engine(), tuple(sorted(set(config.shots)))
    banks = [source, *(target.stored for target in targets)]
    patches = all(bank.patches for bank in banks) and any(reads_patches(m.adapter) for m in methods)
    progress(f"drawing shots of {config.data}")
    start = _source(config, source, max(shots), patches, families=not config.targets)
    settings = {
        target.name: _target(
            config, source, target, place if config.targets else 0, start.space, max(shots), patches
        )
        for place, target in enumerate(targets, 1)
    }
    results: dict[tuple[str, str, int], Result] = {}
    for method in methods:
        progress(f"evaluating {method.name}: {', '.join(settings)}")
        for shot in shots:
            choice = choose(engine, config, start, method, shot)
            for setting in (start, *settings.values()):
                found = evaluate(engine, config, setting, method, shot, choice)
                results |= {(name, method.name, shot): result for name, result in found.items()}
    if len(targets) > 1:
        results |= mean_results(results, AVERAGE, list(settings))
    everything = [setting for setting in (start, *settings.values()) if setting.queries]
    # Families are images of the source, so they add no data set.
    others = targets if config.targets else ()
    data = [(config.data, source.keys), *((t.spec, t.stored.keys) for t in others)]
    parts = [setting.part for setting in everything if setting.part is not None]
    short = {str(k): sum(short_of(s, k) for s in everything) for k in shots}
    facts: dict[str, Any] = {
        "n_query": sum(sum(g["n_query"] for g in groups_of(s).values()) for s in everything),
        "groups": {name: fact for s in everything for name, fact in groups_of(s).items()},
        "targets": [_described(target) for target in others],
        "classes_short_of_shots": {k: count for k, count in short.items() if count},
    }
    return Outcome(rows_of(results), facts, keep(config, data, parts, results))


def _described(target: Target) -> dict[str, Any]:
    told = target.stored.manifest["data"]
    return {
        "name": target.name,
        "spec": target.spec,
        "source": told.get("spec"),
        "version": told.get("version"),
        "n_classes": len(target.stored.class_names),
    }


def _source(
    config: EvalConfig, source: StoredBank, shots: int, patches: bool, *, families: bool
) -> Setting:
    """All classes of the source, with its val images if settings are chosen on them."""
    (space,) = label_spaces(config, len(source.class_names))
    (name,) = unlike_names([config.data])
    named = LabelSpace(space.classes, (Group(name, space.classes),))
    on_val = check_splits(config, source) and config.select == "val"
    setting = prepare(config, source, named, shots, on_val, patches=patches)._replace(source=name)
    if families:  # its query images are those of the targets
        return setting._replace(space=LabelSpace(space.classes, ()), queries={}, part=None)
    return setting


def _target(
    config: EvalConfig,
    source: StoredBank,
    target: Target,
    place: int,
    space: LabelSpace,
    shots: int,
    patches: bool,
) -> Setting:
    stored = target.stored
    if not (stored.splits == SPLITS.index(config.query_split)).any():
        raise UserError(f"the target {target.spec} has no {config.query_split} images to ask")
    if config.protocol == "domain_shift":
        return _shifted(config, source, target, place, space, shots, patches)
    if not (stored.splits == TRAIN).any():
        raise UserError(f"the target {target.spec} has no train images to draw shots from")
    ids = np.arange(len(stored.class_names), dtype=np.int32)
    whole = LabelSpace(ids, (Group(target.name, ids),))
    try:
        setting = prepare(config, stored, whole, shots, False, patches=patches)
    except UserError as error:
        raise UserError(f"target {target.spec}: {error}") from None
    assert setting.part is not None
    (_, rows, labels) = setting.part.groups[target.name]
    groups = {target.name: (place, rows, labels)}
    return setting._replace(part=setting.part._replace(data=place, groups=groups))


def _shifted(
    config: EvalConfig,
    source: StoredBank,
    target: Target,
    place: int,
    space: LabelSpace,
    shots: int,
    patches: bool,
) -> Setting:
    """Shots of the source for the classes that the target has, and images of the target."""
    stored = target.stored
    asked = stored.splits == SPLITS.index(config.query_split)
    there = set(np.unique(stored.labels[asked]).tolist())
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
    train = select_bank(source, ["train"])
    check_train(train, source, ids, shots)
    draws = draw_supports(jax.random.key(SUPPORT_SEED), train, few, shots, config.seeds)
    bank = select_bank(stored, [config.query_split], theirs, patches=patches)
    query = Query(bank.features[0], bank.labels, jnp.ones(bank.labels.shape, bool), bank.patches)
    part = part_of(source, few, draws)
    rows = bank_rows(stored, [config.query_split], theirs)
    part.groups[target.name] = (place, rows, np.asarray(bank.labels))
    return Setting(few, draws, {target.name: query}, None, largest_train_class(source), part)


def left_out(
    config: EvalConfig, source: StoredBank, targets: Sequence[Target]
) -> Mapping[str, int]:
    """Count the classes of every target that ``domain_shift`` cannot ask, where there are any."""
    if config.protocol != "domain_shift" or not config.targets:
        return {}
    counts = {
        target.name: len(target.stored.class_names) - len(match_classes(source, target.stored))
        for target in targets
    }
    return {name: count for name, count in counts.items() if count}
