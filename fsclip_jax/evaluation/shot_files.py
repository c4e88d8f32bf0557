"""Few-shot draws that papers share: which pictures are the shots, read and written.

The file of a number of shots ``K`` and a seed ``S`` lies in ``split_fewshot/``:

``shot_K-seed_S_train.jsonl``, ``shot_K-seed_S_val.jsonl``
    The repository of 2SFS: a line a picture, the fields of CoOp's ``Datum``:
    ``{"impath": "oxford_pets/images/a.jpg", "label": 3, "domain": 0, "classname": "beagle"}``.
    The list ``[impath, label, classname]``, as in CoOp's split files, is read too.
``shot_K-seed_S.pkl``
    CoOp: a pickle of ``{"train": [Datum, ...], "val": [...]}``. It is not unpickled: the attributes
    of objects called ``Datum`` are read, and everything else is refused.

``K`` is a number, or ``imbalanced_4`` where classes have 4 shots on average.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from fsclip_jax.clip.opcodes import Module, RefusedError, interpret
from fsclip_jax.durable import storage_errors, write_file
from fsclip_jax.errors import UserError, first_line
from fsclip_jax.json_files import read_bytes

FOLDER = "split_fewshot"
MOST_BYTES = 256 * 2**20
"""Bytes of a file that are read: lists of all of ImageNet's train images have 150 MB."""
MOST_LISTED = 2_000_000
_NAME = re.compile(
    r"shot_(?P<shots>(?:imbalanced_)?[1-9]\d{0,8})[-_]seed_(?P<seed>\d{1,9})"
    r"(?:[-_](?P<split>train|val)\.jsonl|\.pkl)"
)
_FORM = '{"impath": "CLASS/IMAGE.jpg", "label": 0, "classname": "NAME"}'


class Listed(msgspec.Struct, frozen=True, array_like=True):
    """A picture of a list, as its file says; nothing is known of it yet."""

    impath: Annotated[str, Meta(min_length=1, max_length=4096)]
    label: Annotated[int, Meta(ge=0, lt=100_000)]
    classname: Annotated[str, Meta(min_length=1, max_length=1000)]


class ShotLists(NamedTuple):
    """One draw: its shots, its val pictures (None where the files have none), and the files."""

    seed: int
    train: tuple[Listed, ...]
    val: tuple[Listed, ...] | None
    files: tuple[Path, ...]

    def described(self) -> list[dict[str, str]]:
        """Name the files and their sums, for the report."""
        return [
            {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
            for file in self.files
        ]


def find_shot_lists(folder: Path, shots: str, seeds: int) -> tuple[ShotLists, ...]:
    """Read the lists of a number of shots, of the first seeds that the folder has.

    Args:
        shots: as in the names of the files.

    Raises:
        UserError: there is no such folder or not so many seeds, or a file is no list.
    """
    inner = folder / FOLDER
    place = inner if inner.is_dir() else folder
    if not place.is_dir():
        raise UserError(
            f"--draws {folder}: no such folder; give one with {FOLDER}/*.jsonl or *.pkl"
        )
    held: dict[str, dict[int, dict[str, Path]]] = {}
    for file in sorted(place.iterdir()):
        if match := _NAME.fullmatch(file.name):
            split = match["split"] or "pkl"
            held.setdefault(match["shots"], {}).setdefault(int(match["seed"]), {})[split] = file
    there = {seed: kept for seed, kept in held.get(shots, {}).items() if {"train", "pkl"} & {*kept}}
    if len(there) < seeds:
        known = ", ".join(sorted(held, key=lambda name: (len(name), name))) or "none"
        remedy = f"--seeds {len(there)}" if there else "--shots of these"
        raise UserError(
            f"--draws {folder}: {len(there)} of {seeds} seeds have lists of {shots} shots (shots "
            f"there: {known}); give {remedy}"
        )
    return tuple(_read(seed, there[seed]) for seed in sorted(there)[:seeds])


def _read(seed: int, kept: dict[str, Path]) -> ShotLists:
    """Read the files of one draw, of both kinds the lines."""
    if "train" not in kept:
        both = read_pickled_lists(kept["pkl"])
        return ShotLists(seed, both["train"], both.get("val"), (kept["pkl"],))
    val = read_lines(kept["val"]) if "val" in kept else None
    files = tuple(kept[split] for split in ("train", "val") if split in kept)
    return ShotLists(seed, read_lines(kept["train"]), val, files)


def read_lines(path: Path) -> tuple[Listed, ...]:
    """Read a list of a line a picture.

    Raises:
        UserError: it cannot be read, or a line has another form; the line is named.
    """
    data = _bytes(path)
    found: list[Listed] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not line.strip():
            continue
        try:
            held = msgspec.json.decode(line)
            found.append(_listed(held) if isinstance(held, dict) else msgspec.convert(held, Listed))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"{path}, line {number}: {first_line(error)[:200]}; expected is {_FORM}"
            ) from error
    return _some(path, found)


def read_pickled_lists(path: Path) -> dict[str, tuple[Listed, ...]]:
    """Read CoOp's pickle of a draw: ``train``, and ``val`` where it has one. Nothing is run.

    Raises:
        UserError: it cannot be read, or holds or asks for anything else.
    """
    data = _bytes(path)
    try:
        held = interpret(data, scripted=False, record="Datum")
        if not isinstance(held, dict) or not isinstance(held.get("train"), list):
            raise RefusedError("holds no dict with a list `train`")
        lists = {name: held[name] for name in ("train", "val") if held.get(name) is not None}
        return {name: _some(path, list(_records(each))) for name, each in lists.items()}
    except RefusedError as error:
        raise UserError(
            f"{path} is refused: it {error}; wanted is a few-shot list as CoOp writes it, "
            '{"train": [Datum, ...], "val": [...]}'
        ) from error
    except (MemoryError, UserError):
        raise
    except Exception as error:  # pickletools raises many kinds on a broken file
        reason = first_line(error)[:200]
        raise UserError(f"{path} is truncated or broken ({reason}); download it again") from error


def _records(held: Any) -> Iterator[Listed]:
    """Take the fields of every ``Datum``."""
    if not isinstance(held, list) or len(held) > MOST_LISTED:
        raise RefusedError(f"holds something else than a list of at most {MOST_LISTED} pictures")
    for each in held:
        if not isinstance(each, Module):
            raise RefusedError("lists something that is no Datum")
        try:
            yield _listed(each.attributes)
        except msgspec.ValidationError as error:
            raise RefusedError(f"has a Datum that is none: {first_line(error)[:200]}") from error


def _listed(fields: Mapping[Any, Any]) -> Listed:
    """Take the fields of a ``Datum``, which keeps them behind an underscore."""
    names = Listed.__struct_fields__
    return msgspec.convert([fields.get(f"_{name}", fields.get(name)) for name in names], Listed)


def _bytes(path: Path) -> bytes:
    try:
        return read_bytes(path, MOST_BYTES)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise UserError(f"{path} cannot be read: {reason}; give a few-shot list") from error


def _some(path: Path, found: Sequence[Listed]) -> tuple[Listed, ...]:
    if not found:
        raise UserError(f"{path} lists no picture; give a list of {_FORM} a line")
    return tuple(found)


def write_lines(folder: Path, name: str, listed: Sequence[Listed]) -> Path:
    """Write a list as 2SFS has them; the same pictures are the same bytes.

    Raises:
        UserError: the disk is full or the folder cannot be written to.
    """
    text = "".join(
        json.dumps({"impath": p.impath, "label": p.label, "domain": 0, "classname": p.classname})
        + "\n"
        for p in listed
    )
    path = folder / FOLDER / name
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, text.encode("utf-8"))
    return path


def file_name(shots: int | str, seed: int, split: str) -> str:
    """Name the list of a draw.

    Example:
        >>> file_name(4, 1, "train"), file_name("imbalanced:4", 1, "val")
        ('shot_4-seed_1_train.jsonl', 'shot_imbalanced_4-seed_1_val.jsonl')
    """
    return f"shot_{in_names(shots)}-seed_{seed}_{split}.jsonl"


def in_names(shots: int | str) -> str:
    """Say a number of shots as names of files do."""
    return str(shots).replace(":", "_")
