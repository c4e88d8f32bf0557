"""A small report with two halves, for the tests of the formats."""

import numpy as np

from fsclip_jax.evaluation.metrics import harmonic_mean
from fsclip_jax.report.intervals import confidence_interval, paired_difference
from fsclip_jax.report.rows import Difference, Metric, Report, Row

METHODS = {
    "zero_shot": (0.0, 0.0),
    "prototype": (-4.0, 6.0),
    "text_prototype": (3.0, 2.5),
    "tip_adapter": (2.0, 2.0),
    "meta_adapter": (4.5, 3.0),
    "meta_adapter_untrained": (3.1, 2.4),
}


def example_report(shots=(1, 2, 4), spec="emoji", methods=METHODS) -> Report:
    luck = np.array([-0.4, 0.1, 0.5])
    values = {}
    for place, (method, (start, slope)) in enumerate(methods.items()):
        for shot in shots:
            gain = 0 if method == "zero_shot" else start + slope * np.log2(shot)
            noise = 0 if method == "zero_shot" else np.roll(luck, place // 3) / shot
            for split, level in (("base", 15.5), ("novel", 13.0)):
                values[method, shot, split] = level + gain + noise + np.zeros(3)
            values[method, shot, "harmonic"] = harmonic_mean(
                values[method, shot, "base"], values[method, shot, "novel"]
            )
    rows = [
        _row(method, shot, split, values)
        for split in ("base", "novel", "harmonic")
        for method in methods
        for shot in shots
    ]
    return Report(
        fsclip_version="0.1.0",
        command="python eval.py configs/quickstart.py",
        device="cpu (2 cores)",
        protocol="cross_category",
        label_space="restricted",
        backbone={"id": "mini", "sha256": "0" * 64},
        data={"spec": spec, "version": "1", "n_classes": 627, "n_query": 2400},
        rows=tuple(rows),
        settings={"seeds": 3, "shots": list(shots), "select": "val", "query_split": "test"},
        checkpoints=({"path": "runs/quickstart", "method": "meta_adapter", "classes": "base"},),
        versions={"jax": "0.10.2"},
        created="2026-01-01T00:00:00Z",
    )


def _row(method, shot, split, values) -> Row:
    mine = values[method, shot, split]
    versus = {}
    if method != "zero_shot":
        zero_shot = Difference(*paired_difference(mine, values["zero_shot", shot, split]))
        versus["zero_shot"] = {"accuracy": zero_shot}
    derived = split == "harmonic"
    costs = {
        "calibration_error": Metric(3.25),
        "nll": Metric(1.5),
        "fit_seconds": Metric(0.001),
        "predict_us_per_query": Metric(12.5),
        "state_bytes": Metric(2048.0),
    }
    tip = {"split": "val", "rule": "val images", "alpha": [1.0, 1.2, 1.0], "beta": [5.5] * 3}
    return Row(
        method=method,
        shots=shot,
        split=split,
        metrics={"accuracy": Metric(*confidence_interval(mine), tuple(float(v) for v in mine))}
        | ({} if derived else costs),
        selection=tip if method == "tip_adapter" and not derived else {},
        saw=()
        if method == "zero_shot"
        else ("shots", "val")
        if method == "tip_adapter"
        else ("shots",),
        versus=versus,
    )
