"""Which classes a query is classified among, and whose images are asked: the protocols."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from fsclip_jax.data.splits import SPLITS, base_novel
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.easy_hard import easy_hard, zero_shot_by_class


@dataclass(frozen=True)
class Group:
    """Classes whose query images make one row: ``test`` (all classes), ``base`` or ``novel``."""

    name: str
    classes: np.ndarray


@dataclass(frozen=True)
class LabelSpace:
    """Classes that one classifier tells apart, ids ascending, and the groups that it is asked."""

    classes: np.ndarray
    groups: tuple[Group, ...]


Halves: TypeAlias = tuple[np.ndarray, np.ndarray]
"""Ids of the base and of the novel classes, ascending."""


def class_halves(config: EvalConfig, stored: StoredBank) -> Halves:
    """Return the base and novel classes that the configuration means."""
    if config.class_split == "easy_hard":
        return easy_hard(zero_shot_by_class(stored))
    return base_novel(len(stored.class_names))


def label_spaces(
    config: EvalConfig, n_classes: int, halves: Halves | None = None
) -> tuple[LabelSpace, ...]:
    """Return the label spaces of a protocol.

    ``full_way`` and ``episodic`` have one, of the classes that ``config.classes`` names.
    ``cross_category`` has one per half if the label space is restricted, and a single one of all
    classes, asked about either half, if it is generalised. The halves are the first and the second
    half of the classes unless given.

    Raises:
        UserError: settings that do not go together.

    Example:
        >>> config = EvalConfig(protocol="cross_category")
        >>> [space.classes.tolist() for space in label_spaces(config, 5)]
        [[0, 1, 2], [3, 4]]
    """
    base, novel = halves or base_novel(n_classes)
    whole = np.arange(n_classes, dtype=np.int32)
    if config.protocol != "cross_category":
        if config.label_space == "generalised":
            raise UserError(
                f"label space generalised goes with the protocol cross_category, not with "
                f"{config.protocol}: give --protocol cross_category or leave --label-space out"
            )
        ids = {"all": whole, "base": base, "novel": novel}[config.classes]
        name = "test" if config.classes == "all" else config.classes
        if len(ids) < 2:
            raise UserError(
                f"{len(ids)} class to tell apart (--classes {config.classes}); give two or more"
            )
        return (LabelSpace(ids, (Group(name, ids),)),)
    if config.classes != "all":
        raise UserError(
            f"classes {config.classes} goes with full_way and episodic; cross_category reports "
            "both halves: leave --classes out"
        )
    if n_classes < 4:
        raise UserError(
            f"cross_category halves the classes and the data has {n_classes}; give four or more, "
            "or --protocol full_way"
        )
    groups = (Group("base", base), Group("novel", novel))
    if config.label_space == "generalised":
        return (LabelSpace(whole, groups),)
    return tuple(LabelSpace(group.classes, (group,)) for group in groups)


def check_splits(config: EvalConfig, stored: StoredBank) -> bool:
    """Check that there are the images that the protocol needs; say whether val can be selected on.

    Raises:
        UserError: there are no images to draw shots from, or none to ask.
    """
    counts = dict(zip(SPLITS, np.bincount(stored.splits, minlength=len(SPLITS)), strict=True))
    there = ", ".join(f"{name} {count}" for name, count in counts.items())
    if counts["train"] == 0:
        raise UserError(
            f"no train images to draw shots from ({there}); give data with a train split"
        )
    if counts[config.query_split] == 0:
        other = "val" if config.query_split == "test" else "test"
        remedy = (
            f"give --query-split {other}{' --select shots' if other == 'val' else ''}"
            if counts[other]
            else "give data with a test split"
        )
        raise UserError(f"no {config.query_split} images to ask ({there}); {remedy}")
    return bool(counts["val"]) and config.query_split != "val"
