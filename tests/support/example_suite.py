"""The content of a suite.json, of any size, for tests and the benchmark of its page."""

import numpy as np

from fsclip_jax.report.intervals import confidence_interval

METHODS = ("zero_shot", "prototype", "tip_adapter", "meta_adapter")


def example_suite(data=("emoji", "pets", "cars"), methods=METHODS, shots=(1, 4, 16), seeds=3):
    rng = np.random.default_rng(0)
    values, cells = {}, []
    for place, name in enumerate(data):
        for order, method in enumerate(methods):
            for shot in shots:
                gain = 0 if method == "zero_shot" else (3 + order) * np.log2(2 * shot) / 3
                noise = 0 if method == "zero_shot" else rng.normal(size=seeds)
                values[name, method, shot] = 30.0 + 4 * (place % 8) + gain + noise + np.zeros(seeds)
                cells.append(_cell(name, method, shot, values[name, method, shot]))
    means = [
        _row(m, s, np.mean([values[name, m, s] for name in data], axis=0))
        for m in methods
        for s in shots
    ]
    return {
        "schema": 2, "kind": "suite", "fsclip_version": "0.1.0", "command": "fsclip suite",
        "device": "cpu (2 cores)", "created": "2026-01-01", "protocol": "full_way",
        "label_space": "restricted", "settings": {"seeds": seeds, "shots": list(shots)},
        "data": {name: {"spec": name, "n_classes": 10, "n_query": 100} for name in data},
        "backbones": {"mini": {"spec": "mini", "sha256": "0" * 64}}, "warning": [],
        "means": [{"backbone": "mini", "rows": means}], "cells": cells,
    }  # fmt: skip


def _row(method, shots, values):
    mean, ci95 = confidence_interval(values)
    accuracy = {"mean": mean, "ci95": ci95, "per_seed": [float(v) for v in values]}
    metrics = {
        "accuracy": accuracy,
        "nll": accuracy | {"mean": 1.25},
        "fit_seconds": {"mean": 0.01},
    }
    return {"method": method, "shots": shots, "split": "test", "metrics": metrics}


def _cell(data, method, shots, values):
    return {
        "data": data, "backbone": "mini", "method": method, "shots": shots, "status": "done",
        "reason": "", "folder": f"cells/{data}/mini/{method}/{shots}_shots",
        "rows": [_row(method, shots, values)],
    }  # fmt: skip
