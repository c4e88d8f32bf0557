"""Drawing the supports of a label space and reading the images to ask."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.episodes.check import check_shots
from fsclip_jax.episodes.sampler import EpisodeSpec
from fsclip_jax.episodes.task import Query, Words
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.draws import bank_rows, draw_episodes, draw_supports, queries_of
from fsclip_jax.evaluation.label_spaces import LabelSpace
from fsclip_jax.evaluation.listed import listed_draws, support_of, val_of
from fsclip_jax.evaluation.predictions import Part
from fsclip_jax.evaluation.uneven import uneven_counts
from fsclip_jax.evaluation.words import words_of
from fsclip_jax.features.bank import Bank, StoredBank
from fsclip_jax.features.projection import Projection
from fsclip_jax.fitting.draws import Draws, keep_first
from fsclip_jax.report.shots import Shots, in_order, mean_shots
from fsclip_jax.typing import Int

SUPPORT_SEED, EPISODE_SEED, VAL_EPISODE_SEED = 1, 2, 3
"""Seeds of the draws: fixed, so that every evaluation of some data sees the same shots."""

VAL_EPISODES = 200
"""Episodes with queries from val that settings are chosen on, for the protocol ``episodic``."""


class Setting(NamedTuple):
    """One label space with its draws and images.

    Attributes:
        draws: supports, at the largest number of shots.
        others: supports that are not the first shots of ``draws``, by their number of shots:
            imbalanced ones, and those of files.
        vals: val images of each draw, where files name them for a number of shots.
        val: val images to select on, if there are any: their draws (the same as ``draws`` but
            for episodes) and their queries.
        all_shots: shots that take every train image of every class, so that there is but one
            draw; None for episodes, whose classes differ.
        part: the same images as rows of the bank, for the kept answers; None for episodes.
        source: name of the data set that settings are chosen on for others; empty if there are
            none.
    """

    space: LabelSpace
    draws: Draws
    queries: Mapping[str, Query]
    val: tuple[Draws, Query] | None
    all_shots: int | None = None
    part: Part | None = None
    source: str = ""
    others: Mapping[Shots, Draws] = {}
    vals: Mapping[Shots, Query] = {}


def prepare(
    config: EvalConfig,
    stored: StoredBank,
    space: LabelSpace,
    on_val: bool,
    words: Words | None = None,
    *,
    patches: bool = False,
) -> Setting:
    """Draw the supports of a label space and read the images to ask."""
    if config.protocol == "episodic":
        return _prepare_episodes(config, stored, space, on_val, patches=patches)
    few = None if words is None else words_of(words, space.classes, config.seeds)
    found = supports_of(config, stored, space, on_val=on_val, patches=patches)

    def dressed(each: Draws) -> Draws:
        projected = _projected(stored, each)
        return projected._replace(task=projected.task._replace(words=few))

    draws = dressed(found.most)
    others = {shots: dressed(each) for shots, each in found.others.items()}
    queries = {
        group.name: queries_of(stored, config.query_split, space, group, patches=patches)
        for group in space.groups
    }
    val = None
    if on_val:
        parts = [queries_of(stored, "val", space, group, patches=patches) for group in space.groups]
        val = draws, jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    part = part_of(stored, space, found)
    for group in space.groups:
        rows = bank_rows(stored, [config.query_split], group.classes)
        part.groups[group.name] = (0, rows, np.asarray(queries[group.name].labels))
    largest = largest_train_class(stored)
    return Setting(space, draws, queries, val, largest, part, "", others, found.vals)


class Supports(NamedTuple):
    """The supports of a label space.

    Attributes:
        even: draws whose first shots are those of every number of shots that is not in ``others``.
        others: by their number of shots.
        vals: val images of each draw, by number of shots, where files name them.
    """

    even: Draws | None
    others: Mapping[Shots, Draws]
    vals: Mapping[Shots, Query] = {}

    @property
    def most(self) -> Draws:
        """Return those of most shots, the even ones where there are any."""
        return self.even or self.others[in_order(self.others)[-1]]

    def rows(self, stored: StoredBank, shots: Shots) -> Int[np.ndarray, "draw way shot"]:
        """Return the rows of a bank that are the shots, -1 for none."""
        if shots in self.others:
            return _stored_rows(stored, self.others[shots])
        return _stored_rows(stored, self.most)[:, :, :shots]


def supports_of(
    config: EvalConfig,
    stored: StoredBank,
    space: LabelSpace,
    *,
    on_val: bool = False,
    patches: bool = False,
) -> Supports:
    """Draw the supports of a label space, or take them from files, with val images of theirs.

    Raises:
        UserError: a class has too few images, or a file is wrong.
    """
    train, seeds, numbers = stored.select(["train"]), config.seeds, in_order(config.shots)
    if config.draws is not None:
        supports: dict[Shots, Draws] = {}
        vals: dict[Shots, Query] = {}
        for shots in numbers:
            found = listed_draws(stored, config.draws, shots, seeds, val=on_val)
            supports[shots] = support_of(stored, train, space, found)
            query = val_of(stored, space, found, patches=patches) if on_val else None
            vals |= {} if query is None else {shots: query}
        return Supports(None, supports, vals)
    return _draw_all(train, stored, space, numbers, seeds)


def _draw_all(
    train: Bank, stored: StoredBank, space: LabelSpace, numbers: Sequence[Shots], seeds: int
) -> Supports:
    """Draw the supports of even and of imbalanced numbers of shots."""
    even: Draws | None = None
    others: dict[Shots, Draws] = {}
    key, sizes = jax.random.key(SUPPORT_SEED), np.asarray(train.sizes)
    sizes = sizes[space.classes] if len(sizes) == len(stored.class_names) else sizes
    if most := max((shots for shots in numbers if isinstance(shots, int)), default=0):
        check_train(train, stored, space.classes, most)
        even = draw_supports(key, train, space, most, seeds)
    for shots in numbers:
        if isinstance(shots, str):
            check_train(train, stored, space.classes, 1)
            counts = np.stack(
                [uneven_counts(mean_shots(shots), i, space.classes, sizes) for i in range(seeds)]
            )
            wide = draw_supports(key, train, space, int(counts.max()), seeds)
            others[shots] = keep_first(wide, counts)
    return Supports(even, others)


def _projected(stored: StoredBank, draws: Draws) -> Draws:
    """Give the tasks the projection, where their features are read before it to train it."""
    if stored.side != "raw" or stored.projection is None:
        return draws
    projection = Projection(*map(jnp.asarray, stored.projection))
    return draws._replace(task=draws.task._replace(projection=projection))


def part_of(stored: StoredBank, space: LabelSpace, found: Supports, data: int = 0) -> Part:
    """Say which rows of a bank the shots are; ``data`` is its place among the data sets."""
    names = [stored.class_names[label] for label in space.classes.tolist()]
    others = {shots: found.rows(stored, shots) for shots in found.others}
    return Part(data, names, space.classes, _stored_rows(stored, found.most), {}, others)


def _stored_rows(stored: StoredBank, draws: Draws) -> Int[np.ndarray, "draw way shot"]:
    """Say which rows of a bank the shots are, -1 for none."""
    places = np.asarray(draws.rows)
    return np.where(places >= 0, bank_rows(stored, ["train"])[places], -1)


def _prepare_episodes(
    config: EvalConfig,
    stored: StoredBank,
    space: LabelSpace,
    on_val: bool,
    *,
    patches: bool,
) -> Setting:
    shots = max(map(mean_shots, config.shots))
    train = stored.select(["train"], space.classes)
    asked = stored.select([config.query_split], space.classes, patches=patches)
    both = int(((train.sizes > 0) & (asked.sizes > 0)).sum())
    if both < config.way:
        raise UserError(
            f"way is {config.way}; {both} classes have train and {config.query_split} images: "
            f"give --way {both} or less"
        )
    check_train(train, stored, space.classes, shots)
    spec = EpisodeSpec(config.way, shots, config.query)
    key = jax.random.key(EPISODE_SEED)
    draws, query = draw_episodes(key, train, asked, spec, config.episodes)
    draws, val = _projected(stored, draws), None
    if on_val:
        val_bank = stored.select(["val"], space.classes, patches=patches)
        if int(((train.sizes > 0) & (val_bank.sizes > 0)).sum()) >= config.way:
            val_key = jax.random.key(VAL_EPISODE_SEED)
            val = draw_episodes(val_key, train, val_bank, spec, VAL_EPISODES)
    return Setting(space, draws, {space.groups[0].name: query}, val)


def largest_train_class(stored: StoredBank) -> int:
    """Return the most train images that a class of the bank has."""
    return int(np.bincount(stored.labels[stored.splits == 0]).max())


def check_train(train: Bank, stored: StoredBank, classes: np.ndarray, shots: int) -> None:
    """Refuse shots that the data cannot give.

    Where it has artist families, a class with fewer images gives what it has, and the mask says
    so; then only the largest class must have enough.

    Raises:
        UserError: a class has too few images.
    """
    sizes = np.asarray(train.sizes)
    if len(sizes) == len(stored.class_names):
        sizes = sizes[classes]
    if stored.domains is None:
        names = tuple(stored.class_names[int(label)] for label in classes)
        check_shots(train._replace(sizes=jnp.asarray(sizes)), shots, names)
    elif sizes.max() < shots:
        raise UserError(
            f"shots are up to {shots}; the largest class has {sizes.max()} train images: "
            f"give --shots of {sizes.max()} or less"
        )
