"""Working through the cells of a suite."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeVar

import jax

from fsclip_jax.devices import over_devices
from fsclip_jax.durable import write_text
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.evaluate import (
    Evaluation,
    evaluate_bank,
    find_inputs,
    keep_predictions,
)
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.extract import ExtractSettings, bank_for
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.inputs import text_missing
from fsclip_jax.fitting.methods import why_not
from fsclip_jax.report.rows import Report, report_to_json
from fsclip_jax.suite.cells import CELL, Cell, cell_identity, finished

Made = TypeVar("Made")


@dataclass(frozen=True)
class Done:
    """A cell and what became of it.

    ``reason`` says in one line why there is no report, ``failed`` whether there should be one, and
    ``before`` whether an earlier run made it.
    """

    cell: Cell
    report: Report | None = None
    reason: str = ""
    failed: bool = False
    before: bool = False


def run_cells(
    cells: tuple[Cell, ...],
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
    command: str = "",
) -> Iterator[Done]:
    """Work through the cells, those of one bank side by side; what an earlier run finished is read.

    A cell that fails is named and the rest goes on. A disk that is full or a folder that cannot
    be written to ends the run: every other cell would fail too.

    Raises:
        UserError: a report cannot be written.
    """
    for _, group in itertools.groupby(cells, key=lambda cell: (cell.data, cell.backbone)):
        yield from _run_group(tuple(group), folder, progress, command)


def _run_group(
    cells: tuple[Cell, ...], folder: Path, progress: Callable[[str], None], command: str
) -> Iterator[Done]:
    """The cells of one data set and backbone, which share the bank and what is compiled."""
    engine = Engine()
    opened = _once(lambda: _open(cells[0]))

    def work(cell: Cell) -> Done:
        report = finished(cell, folder)
        if report is not None:
            return Done(cell, report, before=True)
        progress(str(cell))
        stored, broken = opened()
        if stored is None:
            return Done(cell, reason=broken, failed=True)
        inapplicable = _inapplicable(cell, stored)
        if inapplicable:
            return Done(cell, reason=inapplicable)
        found, reason = _evaluate(cell, stored, engine, folder, command)
        if found is None:
            return Done(cell, reason=reason, failed=True)
        return Done(cell, write_cell(cell, found, folder))

    yield from over_devices(work, cells)
    # Each compiled program holds memory maps, of which a process has few.
    jax.clear_caches()


def _once(make: Callable[[], Made]) -> Callable[[], Made]:
    """Return a function that makes something when it is first called, by whichever thread."""
    lock, made = Lock(), list[Made]()

    def get() -> Made:
        with lock:
            if not made:
                made.append(make())
        return made[0]

    return get


def _open(cell: Cell) -> tuple[StoredBank | None, str]:
    config = cell.config
    settings = ExtractSettings(
        views=config.views, prompts=config.prompts, templates=config.templates
    )
    try:
        return bank_for(config.data, config.backbone, settings), ""
    except Exception as error:  # whatever it is, the other data sets go on
        return None, _line(error)


def _inapplicable(cell: Cell, stored: StoredBank) -> str:
    """Why a method does not apply to the data; empty if it does.

    One that was named should apply, but for text: suites go over backbones of both kinds.
    """
    missing = text_missing(stored) if cell.by_name else find_inputs(cell.config, stored).missing
    return why_not(cell.method, missing).removeprefix(f"{cell.method}: ")


def _evaluate(
    cell: Cell, stored: StoredBank, engine: Engine, folder: Path, command: str
) -> tuple[Evaluation | None, str]:
    try:
        where = folder / cell.place  # nothing is trained there: checkpoints are named
        return evaluate_bank(cell.config, stored, where, command=command, engine=engine), ""
    except Exception as error:  # whatever it is, the other cells go on
        return None, _line(error)


def _line(error: Exception) -> str:
    """What went wrong, in one line; what is no mistake of the user is named by its type."""
    line = " ".join(str(error).split())[:500]
    return line if isinstance(error, UserError) else f"{type(error).__name__}: {line}"


def write_cell(cell: Cell, found: Evaluation, folder: Path) -> Report:
    """Write the report of a cell; it is whole, with its predictions, or it is not there.

    Raises:
        UserError: the disk is full or the folder cannot be written to.
    """
    place = folder / cell.place
    report = keep_predictions(found, place)
    report = dataclasses.replace(report, settings={**report.settings, CELL: cell_identity(cell)})
    write_text(place / "report.json", report_to_json(report))
    written = finished(cell, folder)
    assert written is not None, "what was just written is not read back"
    return written
