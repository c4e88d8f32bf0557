"""The cells of a suite spread over hosts: each is done by one of them, process 0 writes all."""

import base64
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fsclip_jax.durable import storage_errors, write_file, write_text
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.predictions_file import PREDICTIONS_FILE
from fsclip_jax.hosts import Hosts
from fsclip_jax.suite.cells import Cell, finished
from fsclip_jax.suite.run import Done, run_cells

_REPORT = "report.json"


def run_shared(
    cells: tuple[Cell, ...],
    folder: Path,
    progress: Callable[[str], None],
    command: str,
    hosts: Hosts,
) -> Iterator[Done]:
    """Do the own share of the cells; process 0 writes and yields those of all, as they are done.

    A cell is done by one host as it would be alone, so its numbers are the same on any number. The
    others yield nothing.

    Raises:
        UserError: a report cannot be written, or another process was given other files.
    """
    if hosts.count == 1:
        yield from run_cells(cells, folder, progress, command)
        return
    if hosts.index:
        _take_part(cells, hosts)
        return
    before = {at for at, cell in enumerate(cells) if finished(cell, folder) is not None}
    hosts.tell("suite", json.dumps({"before": sorted(before), "command": command}))
    yield from run_cells(tuple(cells[at] for at in sorted(before)), folder, progress, command)
    open_ = [at for at in range(len(cells)) if at not in before]
    waiting = {at: other for other in range(1, hosts.count) for at in open_[other :: hosts.count]}
    mine = tuple(cells[at] for at in open_[:: hosts.count])
    for done in run_cells(mine, folder, progress, command):
        yield done
        for at in tuple(waiting):  # kept as they come: a kill costs what is worked on
            if (word := hosts.heard(f"cell/{at}")) is not None:
                yield _written(cells[at], folder, word, waiting.pop(at))
    for at, other in waiting.items():
        yield _written(cells[at], folder, hosts.hear(f"cell/{at}"), other)


def _take_part(cells: tuple[Cell, ...], hosts: Hosts) -> None:
    """Do the share of a process that is not the first, in a folder that is gone afterwards."""
    told = json.loads(hosts.hear("suite"))
    open_ = [at for at in range(len(cells)) if at not in set(told["before"])]
    mine = open_[hosts.index :: hosts.count]
    with tempfile.TemporaryDirectory() as scratch:
        share = run_cells(tuple(cells[at] for at in mine), Path(scratch), command=told["command"])
        for at, done in zip(mine, share, strict=True):
            hosts.tell(f"cell/{at}", _packed(done, Path(scratch)))
            hosts.check()


def _packed(done: Done, folder: Path) -> str:
    """Return what became of a cell as text: the reason, or the files byte for byte."""
    if done.report is None:
        return json.dumps({"reason": done.reason, "failed": done.failed})
    place = folder / done.cell.place
    predictions = place / PREDICTIONS_FILE
    files = {"report": (place / _REPORT).read_text("utf-8")}
    if predictions.is_file():
        files["predictions"] = base64.b64encode(predictions.read_bytes()).decode()
        predictions.unlink()
    return json.dumps(files)


def _written(cell: Cell, folder: Path, word: str, process: int) -> Done:
    """Write what another process made of a cell, the report last."""
    told = json.loads(word)
    if "report" not in told:
        return Done(cell, reason=told["reason"], failed=told["failed"])
    place = folder / cell.place
    with storage_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        (place / PREDICTIONS_FILE).unlink(missing_ok=True)
    if "predictions" in told:
        write_file(place / PREDICTIONS_FILE, base64.b64decode(told["predictions"]))
    write_text(place / _REPORT, told["report"])
    report = finished(cell, folder)
    if report is None:
        raise UserError(
            f"process {process} has other checkpoints than process 0 ({cell}): "
            "give every process the same files"
        )
    return Done(cell, report)
