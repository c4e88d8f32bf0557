"""Many comparisons in one file: what ``suite.json`` holds, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from fsclip_jax.report.metrics import check_counts
from fsclip_jax.report.rows import Row, Shots, ordered
from fsclip_jax.report.schema1 import lift_suite
from fsclip_jax.report.stored import as_json, from_json, read_text


@dataclass(frozen=True)
class StoredCell:
    """One method at one number of shots on one data set and backbone.

    ``reason`` says why there are no rows; ``folder`` is that of the report, below the suite's.
    """

    data: str
    backbone: str
    method: str
    shots: Shots
    status: Literal["done", "failed", "left out"]
    reason: str
    folder: str | None
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        return f"{self.method}, {self.shots} shots, {self.data}, {self.backbone}"


@dataclass(frozen=True)
class Means:
    """Means over all data sets, of the methods that have a number on every one of them."""

    backbone: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, kw_only=True)
class StoredSuite:
    """The results of a suite.

    Attributes:
        data: by name of a data set, ``spec``, ``n_classes``, ``n_query`` and more.
        backbones: by name of a backbone, ``spec``, ``id`` and ``sha256``.
    """

    kind: Literal["suite"]
    fsclip_version: str
    command: str
    device: str
    created: str
    versions: Mapping[str, str] = field(default_factory=dict)
    protocol: str
    label_space: str
    settings: Mapping[str, Any]
    data: Mapping[str, Mapping[str, Any]]
    backbones: Mapping[str, Mapping[str, Any]]
    warning: tuple[str, ...]
    means: tuple[Means, ...]
    cells: Annotated[tuple[StoredCell, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        check_counts("settings", self.settings)
        check_counts("data", self.data)

    @property
    def names(self) -> list[str]:
        """Names of the data sets, in the order of the suite."""
        return ordered([cell.data for cell in self.cells])

    @property
    def seeds(self) -> int:
        """Number of support draws; 0 where the file does not say."""
        found = self.settings.get("seeds")
        return found if isinstance(found, int) else 0


def suite_to_json(suite: StoredSuite) -> str:
    """Return the text of ``suite.json``: numbers rounded to 6 digits after the point."""
    return as_json(suite)


def suite_from_json(text: str, where: str = "suite.json") -> StoredSuite:
    """Read a suite of schema 1 or 2.

    Raises:
        UserError: the text is no suite; the line says what is wrong and where.
    """
    return from_json(text, where, StoredSuite, ("kind", "cells"), lift_suite)


def read_suite(path: Path) -> StoredSuite:
    """Read ``suite.json``, given the file or the folder that holds it.

    Raises:
        UserError: there is no such file, or it is no suite.
    """
    file, text = read_text(path, "suite.json", "`fsclip suite`")
    return suite_from_json(text, str(file))
