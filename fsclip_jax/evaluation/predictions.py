"""What every method answered to every query image, kept beside the report.

``predictions.safetensors`` holds, once, which images were shots and which were asked, and for
every row of the report the answers of every draw, so that each number of the report can be
computed again, and others beside: accuracies of classes, confusions, calibration. Four kinds of
things refer to each other by their place in a list:

``records``
    Images. Each has a data set (place in ``data``), a row of its feature bank, and a key: the
    file name or record id by which the data set knows it.
``spaces``
    Label spaces: the classes that a classifier tells apart, and the shots of every draw. The
    first ``K`` shots of a class are its support at ``K`` shots.
``groups``
    Query images that are asked together; the ``split`` of a row of the report is the name of its
    group. Query ``i`` is the record ``queries[i]`` and of the class ``labels[i]`` of the space.
``rows``
    The answers of one method at one number of shots to one group, arrays [draw query]. Rows that
    are computed from others (``harmonic``, ``average``) are not here, nor are those whose
    published procedure has query images of its own (``meta_adapter_as_published``).

A row that has one draw where its space has several was fitted to all train images: the draws
would be the same. Ten bytes are kept for every answer: 6 MB for all methods on the emoji at
three numbers of shots and three seeds. ``episodic`` keeps none: its hundreds of episodes each
have classes and images of their own, and the accuracy of every one is in the report.

    from fsclip_jax.evaluation.predictions import read_predictions

    kept = read_predictions(Path("runs/all_methods"))
    row = kept.find("tip_adapter", 4, "novel")
    right = row.predicted == kept.group("novel").labels      # [draw query]
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fsclip_jax.errors import UserError
from fsclip_jax.features.durable import storage_errors, write_file
from fsclip_jax.features.layout import pack_strings, unpack_strings

PREDICTIONS_FILE = "predictions.safetensors"
FORMAT, VERSION = "fsclip_predictions", 1
_HEADER = "index"


@dataclass(frozen=True)
class Records:
    """Images that were shots or were asked.

    Attributes:
        data: place of the data set in ``Predictions.data``, int32 [n].
        rows: row of the image in the feature bank of that data set, int32 [n].
        keys: file name or record id.
    """

    data: np.ndarray
    rows: np.ndarray
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Space:
    """Classes that one classifier told apart, and its shots.

    Attributes:
        data: place in ``Predictions.data`` of the data set that the classes and shots are of.
        class_names: names of the classes, in the order of the predictions.
        classes: ids of the classes in that data set, int32 [way].
        support: place in ``records`` of each shot, int32 [draw way shot]; -1 where a class has
            no further image.
    """

    data: int
    class_names: tuple[str, ...]
    classes: np.ndarray
    support: np.ndarray


@dataclass(frozen=True)
class Group:
    """Query images that make one row of every method.

    Attributes:
        name: what the report calls ``split``: ``test``, ``base``, ``novel`` and the like.
        space: place in ``Predictions.spaces`` of the classes that they are told apart among.
        queries: place in ``records`` of each image, int32 [query].
        labels: true class, a place in ``class_names`` of the space, int32 [query].
    """

    name: str
    space: int
    queries: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Predicted:
    """The answers behind one row of the report.

    Attributes:
        method: as in the report.
        shots: as in the report.
        split: as in the report; the name of a group.
        predicted: predicted class, a place in ``class_names`` of the space, uint16 or uint32
            [draw query].
        confidence: probability of the predicted class, float32 [draw query].
        surprise: negative logarithm of the probability of the true class, in nats, float32
            [draw query]; the probability itself would be zero where it is below 1e-45.
    """

    method: str
    shots: int
    split: str
    predicted: np.ndarray
    confidence: np.ndarray
    surprise: np.ndarray

    @property
    def truth(self) -> np.ndarray:
        """Probability of the true class, [draw query]."""
        return np.exp(-self.surprise)


@dataclass(frozen=True)
class Predictions:
    """All answers of an evaluation; see the module.

    Attributes:
        data: specs of the data sets.
        records: the images.
        spaces: the label spaces.
        groups: the query images, each group with a name of its own.
        rows: the answers, in the order of the report.
    """

    data: tuple[str, ...]
    records: Records
    spaces: tuple[Space, ...]
    groups: tuple[Group, ...]
    rows: tuple[Predicted, ...]

    def group(self, split: str) -> Group:
        """Return the group of that name; ``KeyError`` if there is none."""
        for group in self.groups:
            if group.name == split:
                return group
        raise KeyError(split)

    def space(self, split: str) -> Space:
        """Return the label space of the group of that name; ``KeyError`` if there is none."""
        return self.spaces[self.group(split).space]

    def find(self, method: str, shots: int, split: str) -> Predicted | None:
        """Return the answers behind a row of the report, None if they are not kept."""
        for row in self.rows:
            if (row.method, row.shots, row.split) == (method, shots, split):
                return row
        return None


class Part(NamedTuple):
    """A label space before its images are numbered.

    Attributes:
        data: place of the data set of the classes and shots.
        class_names: names of the classes of the space.
        classes: ids of the classes.
        support: rows of the bank of each shot, [draw way shot]; -1 for none.
        groups: by name: the data set of the queries, their rows in its bank, their labels.
    """

    data: int
    class_names: Sequence[str]
    classes: np.ndarray
    support: np.ndarray
    groups: dict[str, tuple[int, np.ndarray, np.ndarray]]


def assemble(
    data: Sequence[tuple[str, Sequence[str]]], parts: Sequence[Part], rows: Sequence[Predicted]
) -> Predictions:
    """Number the images of an evaluation.

    Args:
        data: spec of every data set, and the keys of all rows of its bank.
        parts: the label spaces.
        rows: the answers.

    Returns:
        The predictions, with records in the order of data sets and rows.
    """
    used = [np.zeros(len(keys), bool) for _, keys in data]
    for part in parts:
        used[part.data][part.support[part.support >= 0]] = True
        for place, asked, _ in part.groups.values():
            used[place][asked] = True
    counts = [int(mask.sum()) for mask in used]
    first = np.cumsum([0, *counts])
    number = [np.cumsum(mask) - 1 + first[i] for i, mask in enumerate(used)]
    chosen = [np.flatnonzero(mask) for mask in used]
    records = Records(
        data=np.repeat(np.arange(len(data), dtype=np.int32), counts),
        rows=np.concatenate(chosen).astype(np.int32),
        keys=tuple(data[i][1][row] for i, rows in enumerate(chosen) for row in rows.tolist()),
    )
    spaces, groups = [], []
    for place, part in enumerate(parts):
        support = np.where(part.support >= 0, number[part.data][part.support], -1)
        spaces.append(
            Space(
                part.data,
                tuple(part.class_names),
                part.classes.astype(np.int32),
                support.astype(np.int32),
            )
        )
        for name, (asked_of, asked, labels) in part.groups.items():
            queries = number[asked_of][asked].astype(np.int32)
            groups.append(Group(name, place, queries, labels.astype(np.int32)))
    specs = tuple(spec for spec, _ in data)
    return Predictions(specs, records, tuple(spaces), tuple(groups), tuple(rows))


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
