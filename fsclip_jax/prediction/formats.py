"""How predictions are written: as lines of CSV or of JSON."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fsclip_jax.errors import UserError, first_line, require_extra
from fsclip_jax.printable import escaped, inert, printable, unescaped
from fsclip_jax.typing import Float

ENDINGS = (".csv", ".jsonl", ".parquet")
STANDARD_OUTPUT = Path("-")
BROKEN = (ValueError, OverflowError, RecursionError)
"""What reading a line that is none may raise."""


class Row(NamedTuple):
    """What a table says of a picture.

    Attributes:
        label: empty for a picture of none of the classes.
        ranked: the best classes and their probabilities, the best first.
        similarity: largest cosine to a labelled picture.
    """

    image: str
    label: str
    ranked: tuple[tuple[str, float], ...]
    similarity: float

    @property
    def best(self) -> str:
        """The most probable class."""
        return self.ranked[0][0]


def columns(top: int) -> list[str]:
    """Return the names of the columns.

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


def require_format(out: Path, *, safe: bool = False) -> None:
    """Refuse a table whose format is not written, before any work.

    Raises:
        UserError: its name has another ending, an extra is missing, or ``safe`` is not of it.
    """
    if out != STANDARD_OUTPUT and out.suffix.lower() not in ENDINGS:
        raise UserError(
            f"--out is {out}; give a name that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}, "
            "or - for standard output"
        )
    if safe and out != STANDARD_OUTPUT and out.suffix.lower() != ".csv":
        raise UserError(f"--safe-csv is of tables in CSV, and --out is {out}; leave one of them")
    if out.suffix.lower() == ".parquet":
        require_extra(["pyarrow.parquet"], None, f"--out {out}")


@dataclass(frozen=True)
class Layout:
    """How rows become lines that end in a line feed, and back.

    Attributes:
        as_json: a line is an object of JSON, else of CSV.
        safe: ``'`` stands before what a spreadsheet would take for a formula.
    """

    columns: tuple[str, ...]
    as_json: bool = False
    safe: bool = False

    @property
    def head(self) -> bytes:
        """What stands above all lines."""
        return b"" if self.as_json else _csv([self.columns])

    def lines(self, rows: Sequence[Sequence[str]]) -> bytes:
        """Write rows of :func:`prediction_row`, their names made printable."""
        cells = ([escaped(row[0]), *map(printable, row[1:])] for row in rows)
        if self.as_json:
            return "".join(f"{self._object(row)}\n" for row in cells).encode()
        return _csv([[inert(cell) for cell in row] for row in cells] if self.safe else cells)

    def _object(self, cells: Sequence[str]) -> str:
        values = zip(self.columns, cells, strict=True)
        return json.dumps(
            {name: float(cell) if is_number(name) else cell for name, cell in values},
            ensure_ascii=False,
        )

    def row(self, line: bytes) -> Row:
        """Read a line.

        Raises:
            ValueError, OverflowError, RecursionError: it is no line of such a table.
        """
        return row_of(json.loads(line), self.columns) if self.as_json else self._from_csv(line)

    def _from_csv(self, line: bytes) -> Row:
        cells = split_csv(line)
        if len(cells) != len(self.columns):
            raise ValueError(f"it has {len(cells)} cells, not {len(self.columns)}")
        if self.safe:
            cells = [cell.removeprefix("'") for cell in cells]
        image, label, *rest = [cells[place] for place in self._places]
        numbers = [float(cell) for cell in rest[: len(rest) // 2 + 1]]
        if not all(map(math.isfinite, numbers)):
            raise ValueError("a number is not finite")
        _, *shares, similarity = numbers
        names = rest[len(rest) // 2 + 1 :]
        return Row(unescaped(image), label, tuple(zip(names, shares, strict=True)), similarity)

    @cached_property
    def _places(self) -> tuple[int, ...]:
        """Where the words for the picture are, then all numbers, then the names of classes."""
        names = columns((len(self.columns) - 4) // 2)
        numbers = [name for name in names if is_number(name)]
        ranked = [name for name in names if name.startswith("class_")]
        return tuple(self.columns.index(name) for name in ("image", "label", *numbers, *ranked))


def is_number(column: str) -> bool:
    """Say whether a column holds numbers."""
    return column.startswith(("probability", "similarity"))


def row_of(found: Any, columns: Sequence[str]) -> Row:
    """Read the values of one picture by their columns.

    Raises:
        ValueError, OverflowError: these are no such values.
    """
    if not isinstance(found, dict) or set(found) != set(columns):
        raise ValueError(f"it has other fields than {', '.join(columns)}")
    for name, value in found.items():
        if is_number(name):
            good = isinstance(value, int | float) and math.isfinite(value)
        else:
            good = isinstance(value, str)
        if not good:
            raise ValueError(f"{name} is {value!r}")
    ranked, rank = [], 1
    while (name := f"class_{rank}") in found:
        ranked.append((found[name], float(found[f"probability_{rank}"])))
        rank += 1
    return Row(unescaped(found["image"]), found["label"], tuple(ranked), float(found["similarity"]))


def row_of_cells(cells: Sequence[str]) -> Row:
    """Read what :func:`prediction_row` wrote."""
    image, label, _, *ranked, similarity = cells
    shares = zip(ranked[::2], map(float, ranked[1::2]), strict=True)
    return Row(image, label, tuple(shares), float(similarity))


def cells_of(row: Row) -> list[str]:
    """Write a row again, as :func:`prediction_row` did."""
    ranked = [cell for name, share in row.ranked for cell in (name, f"{share:.4f}")]
    return [row.image, row.label, ranked[1], *ranked, f"{row.similarity:.4f}"]


def _csv(rows: object) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
    return text.getvalue().encode()


def split_csv(line: bytes) -> list[str]:
    """Take a line apart; what is no single line of CSV has no cells."""
    try:
        rows = list(csv.reader(io.StringIO(line.decode("utf-8", "surrogateescape")), strict=True))
    except csv.Error:
        return []
    return rows[0] if len(rows) == 1 else []


def lines_of(file: BinaryIO | io.BytesIO, *, quotes: bool) -> Iterator[bytes]:
    r"""Split a file into lines, the last perhaps without an end; quoted names may hold line feeds.

    Example:
        >>> list(lines_of(io.BytesIO(b'a,"b\n"\nc'), quotes=True))
        [b'a,"b\n"\n', b'c']
    """
    parts: list[bytes] = []
    within = False
    for part in file:
        parts.append(part)
        within ^= quotes and part.count(b'"') % 2 == 1
        if not within:
            yield b"".join(parts)
            parts = []
    if parts:
        yield b"".join(parts)


def columns_of(names: Iterable[Any]) -> tuple[str, ...]:
    """Check that a table has the columns of predictions, in any order.

    Raises:
        ValueError: it is another table.
    """
    found = tuple(names)
    if len(found) < 6 or sorted(map(str, found)) != sorted(columns((len(found) - 4) // 2)):
        raise ValueError("a table of predictions begins otherwise")
    return found


def damaged(table: Path, number: int, error: Exception) -> UserError:
    """Say which line of a table is none."""
    return UserError(
        f"{table}, line {number}: {first_line(error)}; mend it, choose another --out, or give "
        "--overwrite"
    )
