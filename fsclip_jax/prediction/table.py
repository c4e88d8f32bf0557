"""Predictions in a CSV file that grows line by line and survives being killed."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np

from fsclip_jax.durable import only_writer, storage_errors, write_file
from fsclip_jax.errors import UserError
from fsclip_jax.printable import escaped, inert, printable, unescaped
from fsclip_jax.typing import Float


def columns(top: int) -> list[str]:
    """Return the header of the table.

    Example:
        >>> columns(1)
        ['image', 'label', 'probability', 'class_1', 'probability_1', 'similarity']
    """
    ranked = [f"{name}_{rank}" for rank in range(1, top + 1) for name in ("class", "probability")]
    return ["image", "label", "probability", *ranked, "similarity"]


def prediction_row(
    image: str,
    probabilities: Float[np.ndarray, " way"],
    class_names: Sequence[str],
    top: int,
    similarity: float,
    known: bool = True,
) -> list[str]:
    """Write one picture's line: the label, the best classes by probability, the similarity.

    The label is empty where the picture is of none of the classes.

    Example:
        >>> prediction_row("a.png", np.array([0.2, 0.8]), ["cat", "dog"], 1, 0.75)
        ['a.png', 'dog', '0.8000', 'dog', '0.8000', '0.7500']
    """
    order = np.argsort(-probabilities, kind="stable")[:top]
    best = int(order[0])
    row = [image, class_names[best] if known else "", f"{probabilities[best]:.4f}"]
    for place in order.tolist():
        row += [class_names[place], f"{probabilities[place]:.4f}"]
    return [*row, f"{similarity:.4f}"]


def held(path: Path) -> AbstractContextManager[None]:
    """Hold the table for this process; another run that wants it is refused by a ``UserError``."""
    return only_writer(path.parent, f".{path.name}.lock", f"is writing {path.name}", "--out")


def refuse_finished(path: Path) -> None:
    """Refuse a file that is there, unless it is the unfinished table of an earlier run."""
    if path.exists() and not _sidecar(path).is_file():
        raise UserError(f"{path} exists already: choose another --out, or remove it")


def _sidecar(path: Path) -> Path:
    return path.with_name(f".{path.name}.unfinished")


class PredictionTable:
    """The file, opened for appending behind the lines that an earlier run finished.

    What the lines were made with is kept beside the file while it grows, in
    ``.NAME.unfinished``: a run with other settings does not continue it.

    Args:
        made_with: all that a line depends on but the picture, JSON values.
        safe: put ``'`` before what a spreadsheet would take for a formula.

    Raises:
        UserError: the file is finished already, is of another making, or cannot be written.
    """

    def __init__(
        self, path: Path, top: int, made_with: Mapping[str, Any], *, safe: bool = False
    ) -> None:
        self._path, self._header, self._safe = path, columns(top), safe
        self._sidecar = _sidecar(path)
        self._made_with = json.dumps(
            {**made_with, "columns": self._header, "safe": safe}, sort_keys=True
        )
        self.done: frozenset[str] = frozenset()
        if path.exists() and not path.is_file():
            raise UserError(f"{path} is no regular file: choose another --out")
        with storage_errors(path):
            if path.exists():
                self.done = self._continue()
            else:
                write_file(self._sidecar, self._made_with.encode())
            # No buffer: what a full disk refuses must not be tried again when the file is closed.
            self._file = path.open("ab", buffering=0)
            try:
                if not self._file.tell():
                    self._write([self._header])
            except OSError:
                self._file.close()
                raise

    def _continue(self) -> frozenset[str]:
        """Cut off a half-written last line and return the pictures that are done."""
        refuse_finished(self._path)
        if self._sidecar.read_bytes() != self._made_with.encode():
            raise UserError(
                f"{self._path} was begun with other labelled pictures or settings: choose "
                "another --out, or remove it"
            )
        whole, done = 0, []
        raw = self._path.read_bytes()
        for line in _lines(raw):
            row = _cells(line)
            if not whole and row != self._header:
                raise UserError(
                    f"{self._path} does not begin as predictions do: choose another --out, or "
                    "remove it"
                )
            if len(row) != len(self._header):
                break
            whole += len(line)
            done.append(row[0])
        if whole < len(raw):
            os.truncate(self._path, whole)
        names = (name.removeprefix("'" * self._safe) for name in done[1:])
        return frozenset(map(unescaped, names))

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Append lines; they are in the file when this returns."""
        with storage_errors(self._path):
            self._write(rows)

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        cells = ([escaped(row[0]), *map(printable, row[1:])] for row in rows)
        if self._safe:
            cells = ([inert(cell) for cell in row] for row in cells)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(cells)
        left = memoryview(text.getvalue().encode())
        while left:
            left = left[self._file.write(left) :]

    def finish(self) -> None:
        """Say that nothing is missing: the file is whole from now on."""
        with storage_errors(self._path):
            os.fsync(self._file.fileno())
            self._sidecar.unlink(missing_ok=True)

    def __enter__(self) -> "PredictionTable":
        """Return the table."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; an unfinished one can be continued."""
        self._file.close()


def _cells(line: bytes) -> list[str]:
    """Take a line apart; what is no single line of CSV has no cells."""
    try:
        rows = list(csv.reader(io.StringIO(line.decode("utf-8", "surrogateescape")), strict=True))
    except csv.Error:
        return []
    return rows[0] if len(rows) == 1 else []


def _lines(raw: bytes) -> Iterator[bytes]:
    """Split a CSV file into records that end; a quoted name may hold a line break."""
    start = 0
    while (end := raw.find(b"\n", start)) >= 0:
        while raw.count(b'"', start, end) % 2:  # within quotes
            end = raw.find(b"\n", end + 1)
            if end < 0:
                return
        yield raw[start : end + 1]
        start = end + 1
