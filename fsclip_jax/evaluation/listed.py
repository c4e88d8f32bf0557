"""Draws that files name, found in a bank; and the draws of an evaluation, written as such files."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.data.splits import SPLITS, TRAIN
from fsclip_jax.episodes.gather import mean_view
from fsclip_jax.episodes.task import Query
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.draws import bank_rows
from fsclip_jax.evaluation.label_spaces import LabelSpace
from fsclip_jax.evaluation.shot_files import (
    Listed,
    ShotLists,
    file_name,
    find_shot_lists,
    in_names,
    write_lines,
)
from fsclip_jax.features.bank import Bank, StoredBank
from fsclip_jax.fitting.draws import Draws, gather_draw
from fsclip_jax.report.shots import Shots
from fsclip_jax.typing import Int


class ListedDraw(NamedTuple):
    """One draw as rows of the bank; ``val`` is None where the files have none."""

    train: Int[np.ndarray, " n"]
    val: Int[np.ndarray, " m"] | None


def listed_draws(
    stored: StoredBank, folder: Path, shots: Shots, seeds: int, *, val: bool
) -> tuple[ListedDraw, ...]:
    """Find the pictures of the lists of a number of shots in a bank.

    Args:
        val: whether val images are wanted; else their lists are not looked at.

    Raises:
        UserError: a picture is not in the bank or named twice, is of another class there, or is a
            shot and not among its train images, or on val and a shot or a test image.
    """
    found = []
    places = _Places(stored)
    for lists in find_shot_lists(folder, in_names(shots), seeds):
        train = _found(stored, places, lists.train, lists.files[0])
        _refuse(stored, train, lists, np.flatnonzero(stored.splits[train] != TRAIN), "a shot")
        if isinstance(shots, int) and (most := np.bincount(stored.labels[train]).max()) > shots:
            raise UserError(f"{lists.files[0]}: a class has {most} shots where {shots} belong")
        rows = None
        if val and lists.val is not None:
            rows = _found(stored, places, lists.val, lists.files[-1])
            test = stored.splits[rows] == SPLITS.index("test")
            _refuse(stored, rows, lists, np.flatnonzero(test), "a val picture")
            if shared := set(rows.tolist()) & set(train.tolist()):
                key = stored.keys[min(shared)]
                raise UserError(f"{lists.files[-1]}: {key} is a shot of this draw, and on val")
        found.append(ListedDraw(train, rows))
    return tuple(found)


def _refuse(
    stored: StoredBank, rows: np.ndarray, lists: ShotLists, wrong: np.ndarray, what: str
) -> None:
    """Refuse pictures of another split, with the first of them."""
    if len(wrong):
        row = int(rows[wrong[0]])
        raise UserError(
            f"{lists.files[0]}: {len(wrong)} of {len(rows)} pictures, such as {stored.keys[row]}, "
            f"are {SPLITS[stored.splits[row]]} images of the data, and none can be {what}: support "
            "and query share nothing; give lists of the same splits"
        )


class _Places:
    """Rows of a bank by what its pictures are called."""

    def __init__(self, stored: StoredBank):
        self.rows = {key: row for row, key in enumerate(stored.keys)}
        self.stored = stored
        self._named: dict[str, list[int]] | None = None

    def of(self, path: str) -> int | None:
        """Find a picture: its key ends the path, or the path ends one key and no other."""
        parts = PurePosixPath(path.replace("\\", "/")).parts
        for first in range(len(parts)):
            row = self.rows.get("/".join(parts[first:]))
            if row is not None:
                return row
        if self._named is None:
            self._named = defaultdict(list)
            for row, key in enumerate(self.stored.keys):
                self._named[key.rpartition("/")[2]].append(row)
        whole = "/" + "/".join(parts)
        ends = [r for r in self._named.get(parts[-1], ()) if self.stored.keys[r].endswith(whole)]
        return ends[0] if len(ends) == 1 else None


def _found(
    stored: StoredBank, places: _Places, listed: Sequence[Listed], file: Path
) -> Int[np.ndarray, " n"]:
    """Find the pictures of a list, each once and of the class that the list says."""
    names = [_plain(name) for name in stored.class_names]
    known, found = set(names), list[int]()
    for each in listed:
        row = places.of(each.impath)
        if row is None:
            raise UserError(
                f"{file}: {each.impath} is no picture of the data, whose pictures are called as "
                f"{stored.keys[0]}; give lists of this data set"
            )
        ours, said = int(stored.labels[row]), _plain(each.classname)
        # A class may go by another name here, such as EuroSAT's: then its number tells.
        if said not in known and each.label >= len(names):
            raise UserError(f"{file}: {each.classname} ({each.label}) is no class of the data")
        if (said != names[ours]) if said in known else (each.label != ours):
            raise UserError(
                f"{file}: {each.impath} is of {stored.class_names[ours]} ({ours}) in the data, and "
                f"of {each.classname} ({each.label}) in the list; give lists of this data set"
            )
        found.append(row)
    rows = np.asarray(found)
    there, counts = np.unique(rows, return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{file}: {stored.keys[there[counts.argmax()]]} is listed twice")
    return rows


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").replace("-", " ").casefold().split())


def support_of(
    stored: StoredBank, train: Bank, space: LabelSpace, draws: Iterable[ListedDraw]
) -> Draws:
    """Read the shots of a label space, in the order of the lists.

    Args:
        train: the train images of all classes.

    Raises:
        UserError: a class has no shot.
    """
    place = np.full(len(stored.labels), -1)
    order = bank_rows(stored, ["train"])
    place[order] = np.arange(len(order))
    chosen = [[d.train[stored.labels[d.train] == c] for c in space.classes] for d in draws]
    for each in chosen:
        if empty := [i for i, rows in enumerate(each) if not len(rows)]:
            name = stored.class_names[space.classes[empty[0]]]
            raise UserError(f"--draws: {len(empty)} classes, such as {name}, have no shot there")
    width = max(len(rows) for each in chosen for rows in each)
    mean, classes, drawn = mean_view(train), jnp.asarray(space.classes, jnp.int32), []
    for each in chosen:
        mask = np.arange(width) < np.array([len(rows) for rows in each])[:, None]
        index = np.zeros(mask.shape, np.int32)
        index[mask] = place[np.concatenate(each)]
        drawn.append(gather_draw(train, classes, jnp.asarray(index), jnp.asarray(mask), mean))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *drawn)


def val_of(
    stored: StoredBank, space: LabelSpace, draws: Sequence[ListedDraw], *, patches: bool
) -> Query | None:
    """Read the val images of every draw; None where the lists have none of these classes."""
    label = np.full(len(stored.class_names), -1, np.int32)
    label[space.classes] = np.arange(len(space.classes))
    each = [np.array([], int) if d.val is None else d.val for d in draws]
    each = [rows[label[stored.labels[rows]] >= 0] for rows in each]
    if not all(map(len, each)):
        return None
    there = np.unique(np.concatenate(each))
    mask = np.arange(max(map(len, each))) < np.array(list(map(len, each)))[:, None]
    index = np.zeros(mask.shape, np.int32)
    index[mask] = np.searchsorted(there, np.concatenate(each))
    return Query(
        jnp.asarray(stored.read(there)[0])[index],
        jnp.asarray(label[stored.labels[there]])[index],
        jnp.asarray(mask),
        jnp.asarray(stored.read_patches(there))[index] if patches else None,
    )


def files_of(folder: Path, shots: Sequence[Shots], seeds: int) -> dict[str, str]:
    """Name the files of all draws, with the sums of what is in them."""
    return {
        told["file"]: told["sha256"]
        for each in shots
        for lists in find_shot_lists(folder, in_names(each), seeds)
        for told in lists.described()
    }


def write_draws(
    stored: StoredBank, folder: Path, supports: Mapping[Shots, Sequence[np.ndarray]]
) -> None:
    """Write draws as lists that can be read again; the first seed is called 1.

    Args:
        supports: rows of the bank ``[draw way shot]``, -1 for none, of every label space.

    Raises:
        UserError: the disk is full or the folder cannot be written to.
    """
    for shots, spaces in supports.items():
        for draw in range(len(spaces[0])):
            rows = np.concatenate([space[draw].ravel() for space in spaces])
            rows = rows[rows >= 0]
            labels = stored.labels[rows]
            rows = rows[np.argsort(labels, kind="stable")]
            listed = [
                Listed(stored.keys[row], int(label), stored.class_names[label])
                for row, label in zip(rows.tolist(), stored.labels[rows].tolist(), strict=True)
            ]
            write_lines(folder, file_name(shots, draw + 1, "train"), listed)
