"""Reports and suites of schema 1, which had one field a metric, as trees of schema 2."""

from collections.abc import Mapping
from typing import Any

Tree = dict[str, Any]

_NAMES = {
    "class_mean_accuracy": "class_mean_accuracy",
    "calibration_error": "calibration_error",
    "negative_log_likelihood": "nll",
    "fit_seconds": "fit_seconds",
    "predict_us_per_query": "predict_us_per_query",
    "state_bytes": "state_bytes",
}


def lift_report(tree: Tree) -> Tree:
    """Return the tree of a report as schema 2 has it.

    Raises:
        TypeError, LookupError, AttributeError: something is missing or of another kind.
    """
    lifted = tree | {"kind": "eval", "rows": [_row(row) for row in tree["rows"]]}
    if tree.get("details"):
        pairs = tree["details"].get("confusions", [])
        renamed = [{**pair, "queries": pair["asked"]} for pair in pairs]
        lifted["details"] = tree["details"] | {"confusions": renamed}
    return lifted


def lift_suite(tree: Tree) -> Tree:
    """Return the tree of a suite as schema 2 has it.

    Raises:
        TypeError, LookupError, AttributeError: something is missing or of another kind.
    """
    cells = [cell | {"rows": [_row(row) for row in cell["rows"]]} for cell in tree["cells"]]
    means: dict[str, list[Tree]] = {}
    for mean in tree.get("means", []):
        means.setdefault(mean["backbone"], []).append(_row({**mean, "accuracy": mean}))
    return tree | {
        "cells": cells,
        "means": [{"backbone": name, "rows": rows} for name, rows in means.items()],
    }


def _row(row: Mapping[str, Any]) -> Tree:
    single = {new: row[old] for old, new in _NAMES.items() if row.get(old) is not None}
    return {
        **row,
        "metrics": {"accuracy": row["accuracy"]} | {n: {"mean": v} for n, v in single.items()},
        "versus": {name: {"accuracy": each} for name, each in row.get("versus", {}).items()},
    }
