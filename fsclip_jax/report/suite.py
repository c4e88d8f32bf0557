"""``suite.json`` as the pages of a suite are drawn from it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsclip_jax.errors import UserError
from fsclip_jax.report.rows import Row, ordered, row_from_tree

SCHEMA = 1
"""Version of the format that is read."""


@dataclass(frozen=True)
class Trouble:
    """Cells without a number and why: ``failed`` or ``left out``."""

    status: str
    reason: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class StoredSuite:
    """The results of a suite.

    Attributes:
        data: names of the data sets, in the order of the suite.
        rows: row of every data set, by backbone and split; each list in the order of the cells.
        means: rows of the means over the data sets, by backbone and split.
        troubles: cells without a number, by reason.
        warning: what a reader must know.
        facts: circumstances of the measurement, as pairs of a name and a text.
        seeds: support draws.
    """

    data: tuple[str, ...]
    rows: Mapping[tuple[str, str], Mapping[str, tuple[Row, ...]]]
    means: Mapping[tuple[str, str], tuple[Row, ...]]
    troubles: tuple[Trouble, ...]
    warning: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    seeds: int


def read_suite(path: Path) -> StoredSuite:
    """Read ``suite.json``.

    Args:
        path: the file, or the folder that holds it.

    Returns:
        The results.

    Raises:
        UserError: there is no such file, or it is no suite of this schema.
    """
    file = path / "suite.json" if path.is_dir() else path
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise UserError(
            f"no suite at {file}: give the suite.json that `fsclip suite` wrote, or its folder"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    return suite_from_json(text, str(file))


def suite_from_json(text: str, where: str = "suite.json") -> StoredSuite:
    """Read a suite from the text of its JSON.

    Args:
        text: the content of ``suite.json``.
        where: how to call it in an error message.

    Returns:
        The results.

    Raises:
        UserError: the text is no suite of this schema; the line says what is wrong.
    """
    try:
        tree = json.loads(text)
        if not isinstance(tree, dict) or tree.get("kind") != "suite":
            raise ValueError("it is no suite")
        if tree.get("schema") != SCHEMA:
            raise ValueError(f"its schema is {tree.get('schema')!r}, this version reads {SCHEMA}")
        return _suite(tree)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            f"{where} cannot be read ({reason}): run `fsclip suite` again to make it anew"
        ) from None


def _suite(tree: Mapping[str, Any]) -> StoredSuite:
    rows: dict[tuple[str, str], dict[str, list[Row]]] = {}
    reasons: dict[tuple[str, str], list[str]] = {}
    for cell in tree["cells"]:
        data, backbone = str(cell["data"]), str(cell["backbone"])
        for row in map(row_from_tree, cell["rows"]):
            rows.setdefault((backbone, row.split), {}).setdefault(data, []).append(row)
        if not cell["rows"]:
            name = f"{cell['method']}, {cell['shots']} shots, {data}, {backbone}"
            place = str(cell.get("status", "")), str(cell.get("reason", ""))
            reasons.setdefault(place, []).append(name)
    means: dict[tuple[str, str], list[Row]] = {}
    for mean in tree.get("means", []):
        row = row_from_tree({**mean, "accuracy": mean})
        means.setdefault((str(mean["backbone"]), row.split), []).append(row)
    if not rows:
        raise ValueError("no cell has a number")
    return StoredSuite(
        data=tuple(ordered([str(cell["data"]) for cell in tree["cells"]])),
        rows={
            place: {name: tuple(each) for name, each in found.items()}
            for place, found in rows.items()
        },
        means={place: tuple(found) for place, found in means.items()},
        troubles=tuple(Trouble(*place, tuple(names)) for place, names in reasons.items()),
        warning=tuple(map(str, tree.get("warning", []))),
        facts=_facts(tree),
        seeds=int(tree.get("settings", {}).get("seeds", 0)),
    )


def _facts(tree: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    settings = tree.get("settings", {})
    data = [
        f"{name}: {facts.get('spec')}, {facts.get('n_classes', '?')} classes, "
        f"{facts.get('n_query', '?')} images asked"
        for name, facts in tree.get("data", {}).items()
    ]
    backbones = [
        f"{name}: {facts.get('spec')}, sha256 {facts.get('sha256') or 'unknown'}"
        for name, facts in tree.get("backbones", {}).items()
    ]
    listed = [
        ("Command", tree.get("command", "")),
        ("Protocol", f"{tree.get('protocol', '')}, {tree.get('label_space', '')} label space"),
        *((name.replace("_", " ").capitalize(), _text(value)) for name, value in settings.items()),
        *(("Data", line) for line in data),
        *(("Backbone", line) for line in backbones),
        ("Device", tree.get("device", "")),
        ("fsclip_jax", tree.get("fsclip_version", "")),
        ("Measured", tree.get("created", "")),
    ]
    return tuple((name, str(text)) for name, text in listed if text)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
