"""Predictions on disk; every reference in the file is checked when it is read."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fsclip_jax.durable import storage_errors, write_file
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.predictions import (
    Predicted,
    QueryGroup,
    Records,
    Space,
    StoredPredictions,
)
from fsclip_jax.features.layout import pack_strings, unpack_strings
from fsclip_jax.printable import printable_tree
from fsclip_jax.report.rows import Shots

PREDICTIONS_FILE = "predictions.safetensors"
_HEADER = "index"
_NLL = {1: "surprise", 2: "nll"}
"""Name of the negative log-likelihoods, by version."""


@dataclass(frozen=True)
class _SpaceEntry:
    data: int
    class_names: tuple[str, ...]
    others: tuple[Shots, ...] = ()


@dataclass(frozen=True)
class _GroupEntry:
    name: str
    space: int


@dataclass(frozen=True)
class _RowEntry:
    method: str
    shots: Shots
    split: str


@dataclass(frozen=True)
class _Index:
    """What the file holds beside arrays."""

    format: Literal["fsclip_predictions"]
    version: Literal[1, 2]
    data: tuple[str, ...]
    spaces: tuple[_SpaceEntry, ...]
    groups: tuple[_GroupEntry, ...]
    rows: tuple[_RowEntry, ...]


def store_predictions(predictions: StoredPredictions, folder: Path) -> str:
    """Write the file whole or not at all, the same content as the same bytes; return its sha256.

    Raises:
        UserError: the disk is full or the folder cannot be written to.
    """
    records = predictions.records
    keys, offsets = pack_strings(records.keys)
    tensors = {
        "records/data": records.data,
        "records/row": records.rows,
        "records/key": keys,
        "records/key_offsets": offsets,
    }
    for i, space in enumerate(predictions.spaces):
        tensors |= {f"space/{i}/classes": space.classes, f"space/{i}/support": space.support}
        tensors |= {f"space/{i}/others/{k}": v for k, (_, v) in enumerate(space.others.items())}
    for i, group in enumerate(predictions.groups):
        tensors |= {f"group/{i}/queries": group.queries, f"group/{i}/labels": group.labels}
    for i, row in enumerate(predictions.rows):
        for name in ("predicted", "confidence", "nll"):
            tensors[f"row/{i}/{name}"] = getattr(row, name)
    index = _Index(
        format="fsclip_predictions",
        version=2,
        data=predictions.data,
        spaces=tuple(
            _SpaceEntry(s.data, s.class_names, tuple(s.others)) for s in predictions.spaces
        ),
        groups=tuple(_GroupEntry(g.name, g.space) for g in predictions.groups),
        rows=tuple(_RowEntry(r.method, r.shots, r.split) for r in predictions.rows),
    )
    header = {_HEADER: msgspec.json.encode(printable_tree(asdict(index))).decode()}
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return write_file(folder / PREDICTIONS_FILE, save(whole, header))


def read_predictions(path: Path) -> StoredPredictions:
    """Read the file, given it or its folder; every reference in it is checked.

    Raises:
        UserError: there is no such file, or it is damaged or of another version.
    """
    file = path / PREDICTIONS_FILE if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"no predictions at {file}: run `fsclip eval` with --predictions, or give its folder"
        )
    try:
        with safe_open(file, "np") as stored:
            header = (stored.metadata() or {}).get(_HEADER, "{}")
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        return _predictions(msgspec.json.decode(header, type=_Index), tensors)
    except (
        SafetensorError, OSError, ValueError, KeyError, TypeError, RecursionError, OverflowError,
    ) as error:  # fmt: skip
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{file} cannot be read ({reason}): run `fsclip eval` again") from None


def _predictions(index: _Index, tensors: Mapping[str, np.ndarray]) -> StoredPredictions:
    images = len(tensors["records/row"])
    records = Records(
        _numbers(tensors["records/data"], len(index.data), (images,)),
        _numbers(tensors["records/row"], 2**31, (images,)),
        _keys(tensors["records/key"], tensors["records/key_offsets"], images),
    )
    spaces, groups, rows = [], [], []
    for i, space in enumerate(index.spaces):
        way = len(space.class_names)
        support, *others = (
            _numbers(tensors[f"space/{i}/{name}"], images, (None, way, None), low=-1)
            for name in ("support", *(f"others/{k}" for k in range(len(space.others))))
        )
        classes = _numbers(tensors[f"space/{i}/classes"], 2**31, (way,))
        known = dict(zip(space.others, others, strict=True))
        held_by = _place(space.data, index.data)
        spaces.append(Space(held_by, space.class_names, classes, support, known))
    for i, group in enumerate(index.groups):
        way = len(spaces[_place(group.space, spaces)].class_names)
        queries = _numbers(tensors[f"group/{i}/queries"], images, (None,))
        labels = _numbers(tensors[f"group/{i}/labels"], way, queries.shape)
        groups.append(QueryGroup(group.name, group.space, queries, labels))
    named = {group.name: group for group in groups}
    if len(named) != len(groups):
        raise ValueError("two groups have one name")
    for i, row in enumerate(index.rows):
        of = named[row.split]
        predicted = tensors[f"row/{i}/predicted"]
        way, draws = len(spaces[of.space].class_names), len(spaces[of.space].support)
        _numbers(predicted, way, (None, len(of.queries)))
        if not 1 <= len(predicted) <= draws:
            raise ValueError(f"row {i} has {len(predicted)} draws")
        confidence, nll = (
            tensors[f"row/{i}/{name}"] for name in ("confidence", _NLL[index.version])
        )
        for part in (confidence, nll):
            if part.dtype != np.float32 or part.shape != predicted.shape:
                raise ValueError(f"row {i} has probabilities of {part.dtype} {part.shape}")
        rows.append(Predicted(row.method, row.shots, row.split, predicted, confidence, nll))
    return StoredPredictions(index.data, records, tuple(spaces), tuple(groups), tuple(rows))


def _place(value: int, things: Sequence[Any]) -> int:
    if not 0 <= value < len(things):
        raise ValueError(f"it refers to number {value} of {len(things)}")
    return value


def _numbers(
    array: np.ndarray, end: int, shape: tuple[int | None, ...], low: int = 0
) -> np.ndarray:
    """Check that an array holds whole numbers from ``low`` to ``end - 1`` in this shape."""
    same = len(shape) == array.ndim and all(
        wanted in (None, size) for wanted, size in zip(shape, array.shape, strict=True)
    )
    if array.dtype not in (np.int32, np.uint16, np.uint32) or not same:
        raise ValueError(f"{array.dtype} {array.shape} where {shape} belongs")
    if array.size and not low <= int(array.min()) <= int(array.max()) < end:
        raise ValueError(f"a number is not within {low} and {end - 1}")
    return array


def _keys(data: np.ndarray, offsets: np.ndarray, count: int) -> tuple[str, ...]:
    if data.dtype != np.uint8 or data.ndim != 1 or offsets.dtype != np.int64:
        raise ValueError("its keys are of the wrong type")
    ends = offsets.shape == (count + 1,) and offsets[0] == 0 and offsets[-1] == data.size
    if not ends or (np.diff(offsets) < 0).any():
        raise ValueError("its keys cannot be told apart")
    return unpack_strings(data, offsets)
