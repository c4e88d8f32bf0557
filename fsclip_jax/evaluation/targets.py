"""The data sets that a source is taken to, and their classes among those of the source."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fsclip_jax.data.splits import SPLITS
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.naming import unlike_names
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.report.measured import AVERAGE

_SYNSET = re.compile(r"(?<![a-z0-9])n\d{8}(?!\d)")


class Target(NamedTuple):
    """A data set to evaluate on."""

    name: str
    spec: str
    stored: StoredBank


def targets_of(
    config: EvalConfig, source: StoredBank, stored: Sequence[StoredBank]
) -> tuple[Target, ...]:
    """Name the targets; without any, those of ``domain_shift`` are the held-out families.

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
    """Find for every class of a target the class of the source.

    By WordNet id where the keys of both banks say one for every class (ImageNet's folders are
    called so), else by name; case, ``_`` and ``-`` in names do not matter. A name that two classes
    of a bank share matches nothing.
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


def unmatched_classes(
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
