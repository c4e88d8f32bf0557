"""Predictions on disk; every reference in the file is checked when it is read."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fsclip_jax.durable import storage_errors, write_file
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.predictions import Group, Predicted, Predictions, Records, Space
from fsclip_jax.features.layout import pack_strings, unpack_strings

PREDICTIONS_FILE = "predictions.safetensors"
FORMAT, VERSION = "fsclip_predictions", 1
_HEADER = "index"


def write_predictions(predictions: Predictions, folder: Path) -> str:
    """Write ``predictions.safetensors`` whole or not at all; the same content, the same bytes.

    Args:
        predictions: what to write.
        folder: where to; made if it is missing.

    Returns:
        The sha256 of the file.

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
    for i, group in enumerate(predictions.groups):
        tensors |= {f"group/{i}/queries": group.queries, f"group/{i}/labels": group.labels}
    for i, row in enumerate(predictions.rows):
        tensors |= {
            f"row/{i}/predicted": row.predicted,
            f"row/{i}/confidence": row.confidence,
            f"row/{i}/surprise": row.surprise,
        }
    index = {
        "format": FORMAT,
        "version": VERSION,
        "data": predictions.data,
        "spaces": [{"data": s.data, "class_names": s.class_names} for s in predictions.spaces],
        "groups": [{"name": g.name, "space": g.space} for g in predictions.groups],
        "rows": [
            {"method": r.method, "shots": r.shots, "split": r.split} for r in predictions.rows
        ],
    }
    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return write_file(folder / PREDICTIONS_FILE, save(whole, {_HEADER: json.dumps(index)}))


def read_predictions(path: Path) -> Predictions:
    """Read what :func:`write_predictions` wrote; every reference in it is checked.

    Args:
        path: the file, or the folder that holds it.

    Returns:
        The predictions.

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
            header = (stored.metadata() or {}).get(_HEADER)
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        index = json.loads(header) if header else {}
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise ValueError("it is not a file of predictions")
        if index.get("version") != VERSION:
            raise ValueError(f"its version is {index.get('version')!r}, this is {VERSION}")
        return _predictions(index, tensors)
    except (
        SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError,
        OverflowError,
    ) as error:  # fmt: skip
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(f"{file} cannot be read ({reason}): run `fsclip eval` again") from None


def _predictions(index: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Predictions:
    data = tuple(_checked(spec, str) for spec in _checked(index["data"], list))
    images = len(tensors["records/row"])
    records = Records(
        _numbers(tensors["records/data"], len(data), (images,)),
        _numbers(tensors["records/row"], 2**31, (images,)),
        _keys(tensors["records/key"], tensors["records/key_offsets"], images),
    )
    spaces, groups, rows = [], [], []
    for i, told in enumerate(_checked(index["spaces"], list)):
        names = tuple(_checked(name, str) for name in _checked(told["class_names"], list))
        support = _numbers(tensors[f"space/{i}/support"], images, (None, len(names), None), low=-1)
        classes = _numbers(tensors[f"space/{i}/classes"], 2**31, (len(names),))
        spaces.append(Space(_place(told["data"], data), names, classes, support))
    for i, told in enumerate(_checked(index["groups"], list)):
        place = _place(told["space"], spaces)
        queries = _numbers(tensors[f"group/{i}/queries"], images, (None,))
        way = len(spaces[place].class_names)
        labels = _numbers(tensors[f"group/{i}/labels"], way, queries.shape)
        groups.append(Group(_checked(told["name"], str), place, queries, labels))
    asked = {group.name: group for group in groups}
    if len(asked) != len(groups):
        raise ValueError("two groups have one name")
    for i, told in enumerate(_checked(index["rows"], list)):
        group = asked[_checked(told["split"], str)]
        space = spaces[group.space]
        predicted = tensors[f"row/{i}/predicted"]
        _numbers(predicted, len(space.class_names), (None, len(group.queries)))
        if not 1 <= len(predicted) <= len(space.support):
            raise ValueError(f"row {i} has {len(predicted)} draws")
        confidence, surprise = tensors[f"row/{i}/confidence"], tensors[f"row/{i}/surprise"]
        for part in (confidence, surprise):
            if part.dtype != np.float32 or part.shape != predicted.shape:
                raise ValueError(f"row {i} has probabilities of {part.dtype} {part.shape}")
        method, shots = _checked(told["method"], str), _checked(told["shots"], int)
        rows.append(Predicted(method, shots, group.name, predicted, confidence, surprise))
    return Predictions(data, records, tuple(spaces), tuple(groups), tuple(rows))


def _checked(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} where {kind.__name__} belongs")
    return value


def _place(value: Any, things: Sequence[Any]) -> int:
    if not 0 <= _checked(value, int) < len(things):
        raise ValueError(f"it refers to number {value} of {len(things)}")
    return int(value)


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
