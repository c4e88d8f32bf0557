"""The cells of a suite: one method at one number of shots on one data set and backbone."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsclip_jax.adapters.base import is_meta_learned, needs_of
from fsclip_jax.adapters.checkpoint import WEIGHTS_FILE
from fsclip_jax.durable import sha256_file
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig, check_shots_given
from fsclip_jax.evaluation.naming import unlike_names
from fsclip_jax.evaluation.shot_files import in_names
from fsclip_jax.fitting.inputs import BY_NAME
from fsclip_jax.fitting.methods import adapter_named, expand_names
from fsclip_jax.report.rows import Report, read_report
from fsclip_jax.report.shots import Shots, in_order
from fsclip_jax.suite.config import SuiteConfig

SHARED = (
    "seeds", "protocol", "label_space", "class_split", "select", "views", "prompts", "templates",
    "predictions",
)  # fmt: skip
"""Fields that the cells of a suite take from it."""

CELL = "cell"
"""Setting of a report that says which cell of a suite it is."""


@dataclass(frozen=True)
class Cell:
    """One evaluation of a suite.

    Attributes:
        method: as asked for; a method that was trained makes two rows.
        by_name: whether the method was asked for by name, and not by ``all``.
    """

    data: str
    backbone: str
    method: str
    shots: Shots
    config: EvalConfig
    by_name: bool

    @property
    def place(self) -> str:
        """Folder of the cell below that of the suite."""
        return f"cells/{self.data}/{self.backbone}/{self.method}/{in_names(self.shots)}_shots"

    def __str__(self) -> str:
        return f"{self.method}, {self.shots} shots, {self.data}, {self.backbone}"


def cells_of(suite: SuiteConfig) -> tuple[Cell, ...]:
    """Return the cells of a suite as they are worked on, those of one bank side by side.

    Raises:
        UserError: nothing to do, or a method that there is not.

    Example:
        >>> suite = SuiteConfig(methods=("zero_shot", "gda"), shots=(1, 2))
        >>> [cell.place for cell in cells_of(suite)][-1]
        'cells/emoji/mini/gda/2_shots'
    """
    for name in ("data", "backbones", "methods", "shots"):
        if not getattr(suite, name):
            raise UserError(f"a suite without {name}: give one or more")
    check_shots_given(suite.shots)
    methods = _methods(suite.methods)
    data = tuple(dict.fromkeys(spec.replace("{root}", str(suite.root)) for spec in suite.data))
    backbones = tuple(dict.fromkeys(suite.backbones))
    pairs = itertools.product(
        zip(data, unlike_names(data), strict=True),
        zip(backbones, unlike_names(backbones), strict=True),
    )
    return tuple(
        Cell(
            data=name,
            backbone=of,
            method=method,
            shots=shots,
            config=EvalConfig(
                data=spec,
                backbone=backbone,
                methods=(method,),
                shots=(shots,),
                checkpoint=_checkpoints(suite, method, name, of),
                **{field: getattr(suite, field) for field in SHARED},
            ),
            by_name=by_name,
        )
        for (spec, name), (backbone, of) in pairs
        for method, by_name in methods.items()
        for shots in in_order(suite.shots)
    )


def _methods(names: Sequence[str]) -> dict[str, bool]:
    """The methods, and whether each was asked for by name; ``all`` leaves out what takes long."""
    return {
        name: by_name
        for name, by_name in expand_names(names).items()
        if by_name or not needs_of(adapter_named(name)) & set(BY_NAME)
    }


def _checkpoints(suite: SuiteConfig, method: str, data: str, backbone: str) -> tuple[Path, ...]:
    """The checkpoints of a suite, for a method that learns across tasks."""
    if not is_meta_learned(adapter_named(method)):
        return ()
    return tuple(
        Path(place.replace("{data}", data).replace("{backbone}", backbone))
        for place in suite.checkpoint
    )


def cell_identity(cell: Cell) -> str:
    """Return a sum of all that decides the numbers of a cell, as far as it is written down.

    Sixteen hex digits: of the configuration, and of the files of the checkpoints.
    """
    config = cell.config
    names = ("data", "backbone", "methods", "shots", *SHARED)
    decides: dict[str, Any] = {name: getattr(config, name) for name in names}
    decides["checkpoint"] = [_sum_of(path) for path in config.checkpoint]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:16]


def _sum_of(checkpoint: Path) -> str | None:
    """What tells a checkpoint from others: of one on the hub the name."""
    file = checkpoint / WEIGHTS_FILE
    if file.is_file():
        return sha256_file(file)
    return None if checkpoint.exists() else checkpoint.as_posix()


def finished(cell: Cell, folder: Path) -> Report | None:
    """Read the report of a cell if it is there, whole, and of the same configuration."""
    file = folder / cell.place / "report.json"
    if not file.is_file():
        return None
    try:
        report = read_report(file)
    except UserError:
        return None
    return report if report.settings.get(CELL) == cell_identity(cell) else None
