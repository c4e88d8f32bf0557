"""Predictions in a file that grows line by line, survives being killed and is added to later."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from fsclip_jax.durable import only_writer, storage_errors, write_file
from fsclip_jax.errors import UserError
from fsclip_jax.prediction.formats import (
    BROKEN,
    Layout,
    Row,
    cells_of,
    columns,
    columns_of,
    damaged,
    lines_of,
    split_csv,
)
from fsclip_jax.prediction.parquet import read_parquet, write_parquet

_REMEDY = "choose another --out, or give --overwrite"


def held(path: Path) -> AbstractContextManager[None]:
    """Hold the table for this process; another run that wants it is refused by a ``UserError``."""
    return only_writer(path.parent, f".{path.name}.lock", f"is writing {path.name}", "--out")


def making(made_with: Mapping[str, Any], top: int, *, safe: bool) -> dict[str, Any]:
    """Return all that a table depends on but the pictures; its report keeps it too."""
    return {**made_with, "columns": columns(top), "safe": safe}


def refuse_finished(path: Path, made_before: Mapping[str, Any] | None = None) -> None:
    """Refuse a file that is there, unless it is known what it was made with.

    Args:
        made_before: what the report of a finished table says of its making.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no regular file: choose another --out")
    if path.exists() and not _is_begun(path) and made_before is None:
        raise UserError(
            f"{path} exists already, and no report says what it was made with: {_REMEDY}"
        )


def remove(path: Path) -> None:
    """Remove a table, finished or not."""
    with storage_errors(path):
        for file in (path, _rows(path), _sidecar(path)):
            file.unlink(missing_ok=True)


def read_rows(table: Path, *, safe: bool = False) -> Iterator[Row]:
    """Read a finished table of any format, row by row.

    Args:
        safe: it was written with ``--safe-csv``.

    Raises:
        UserError: it is no such table, or not as it was written; the line is named.
    """
    if table.suffix.lower() == ".parquet":
        yield from read_parquet(table)
        return
    layout = Layout((), table.suffix.lower() == ".jsonl", safe)
    with table.open("rb") as file:
        for number, line in enumerate(lines_of(file, quotes=not layout.as_json), 1):
            try:
                if number == 1:
                    names = json.loads(line) if layout.as_json else split_csv(line)
                    layout = replace(layout, columns=columns_of(names))
                if number > 1 or layout.as_json:
                    yield layout.row(line)
            except BROKEN as error:
                raise damaged(table, number, error) from error


def _sidecar(path: Path) -> Path:
    return path.with_name(f".{path.name}.unfinished")


def _rows(path: Path) -> Path:
    """Where lines grow: Parquet is written from them in the end."""
    is_parquet = path.suffix.lower() == ".parquet"
    return path.with_name(f".{path.name}.rows") if is_parquet else path


def _is_begun(path: Path) -> bool:
    return _rows(path).exists() and _sidecar(path).is_file()


class PredictionTable:
    """The file, opened for appending behind the lines that earlier runs wrote.

    What the lines were made with is kept beside the file while it grows, in
    ``.NAME.unfinished``: a run with other settings does not continue it. A finished one is opened
    once there is a line to add.

    Args:
        made_with: all that a line depends on but the picture, JSON values.
        safe: put ``'`` before what a spreadsheet would take for a formula.
        made_before: what a finished table was made with, see :func:`making`.

    Raises:
        UserError: the file is of another or an unknown making, damaged, or cannot be written.
    """

    def __init__(
        self,
        path: Path,
        top: int,
        made_with: Mapping[str, Any],
        *,
        safe: bool = False,
        made_before: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.made_with = path, making(made_with, top, safe=safe)
        self._layout = Layout(tuple(columns(top)), path.suffix.lower() != ".csv", safe)
        self._growing, self._sidecar = _rows(path), _sidecar(path)
        self._text = json.dumps(self.made_with, sort_keys=True)
        self._file: BinaryIO | None = None
        self.done: frozenset[str] = frozenset()
        refuse_finished(path, made_before)
        self.finished = path.exists() and not _is_begun(path)
        with storage_errors(path):
            if self.finished:
                self._require_making(json.dumps(made_before, sort_keys=True), "made")
                self.done = frozenset(row.image for row in self.rows())
                return
            if _is_begun(path):
                self._require_making(self._sidecar.read_text("utf-8", "replace"), "begun")
                self.done = self._cut()
            else:
                write_file(self._sidecar, self._text.encode())
                self._growing.unlink(missing_ok=True)
            self._open()

    def _require_making(self, before: str, how: str) -> None:
        if before != self._text:
            raise UserError(
                f"{self.path} was {how} with other labelled pictures or settings: {_REMEDY}"
            )

    def _cut(self) -> frozenset[str]:
        """Cut off a half-written last line and return the pictures that are done."""
        whole, done = 0, []
        with self._growing.open("rb") as file:
            for number, line in enumerate(self._lines(file), 1):
                if not line.endswith(b"\n"):
                    break
                if number > 1 or not self._layout.head:
                    try:
                        done.append(self._layout.row(line).image)
                    except BROKEN:
                        break
                elif not self._is_head(line):
                    raise UserError(f"{self.path} does not begin as predictions do: {_REMEDY}")
                whole += len(line)
        if whole < self._growing.stat().st_size:
            os.truncate(self._growing, whole)
        return frozenset(done)

    def rows(self) -> Iterator[Row]:
        """Read all that is written, row by row.

        Raises:
            UserError: a finished table was damaged since; the line is named.
        """
        if self._file is None and self._growing != self.path:
            yield from read_parquet(self.path)
            return
        with self._growing.open("rb") as file:
            for number, line in enumerate(self._lines(file), 1):
                try:
                    if number > 1 or not self._layout.head:
                        yield self._layout.row(line)
                    elif not self._is_head(line):
                        raise ValueError("predictions begin otherwise")
                except BROKEN as error:
                    raise damaged(self.path, number, error) from error

    def _lines(self, file: BinaryIO) -> Iterator[bytes]:
        return lines_of(file, quotes=not self._layout.as_json)

    def _is_head(self, line: bytes) -> bool:
        return line.rstrip(b"\r\n") == self._layout.head.rstrip(b"\n")

    def _open(self) -> None:
        # No buffer: what a full disk refuses must not be tried again when the file is closed.
        self._file = self._growing.open("ab", buffering=0)
        try:
            if not self._file.tell():
                self._write(self._layout.head)
        except OSError:
            self._file.close()
            raise

    def _open_again(self) -> None:
        """Open a finished table: from now on it is unfinished, and its lines are all there."""
        if self._growing != self.path:
            copy = self._growing.with_name(f"{self._growing.name}.tmp")
            with copy.open("wb") as file:
                for row in read_parquet(self.path):
                    file.write(self._layout.lines([cells_of(row)]))
            copy.replace(self._growing)
        write_file(self._sidecar, self._text.encode())
        self._open()
        with self._growing.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":  # an editor leaves the last line without an end
                self._write(b"\n")

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Append lines; they are in the file when this returns."""
        if not rows:
            return
        with storage_errors(self.path):
            if self._file is None:
                self._open_again()
            self._write(self._layout.lines(rows))

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def finish(self) -> None:
        """Say that nothing is missing: the file is whole from now on."""
        if self._file is None:
            return
        with storage_errors(self.path):
            os.fsync(self._file.fileno())
            if self._growing != self.path:
                write_parquet(self._growing, self._layout, self.path)
            self._sidecar.unlink(missing_ok=True)
            if self._growing != self.path:
                self._growing.unlink(missing_ok=True)

    def __enter__(self) -> "PredictionTable":
        """Return the table."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file; an unfinished one can be continued."""
        if self._file is not None:
            self._file.close()


class PrintedTable:
    """The same lines in CSV, printed; nothing continues them.

    Args:
        out: prints a text at once.
    """

    done: frozenset[str] = frozenset()
    finished = False

    def __init__(self, out: Callable[[str], None], top: int, *, safe: bool = False) -> None:
        self._out, self._layout = out, Layout(tuple(columns(top)), False, safe)
        out(self._layout.head.decode())

    def add(self, rows: Sequence[Sequence[str]]) -> None:
        """Print lines."""
        self._out(self._layout.lines(rows).decode())

    def __enter__(self) -> "PrintedTable":
        """Return the table."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave all as it is."""
