"""The numbers of a report, computed from the kept answers with plain numpy and scipy."""

import numpy as np
import pytest
import scipy.stats


def interval(values):
    """Mean and half the width of the Student-t interval."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return values.mean(), None
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return values.mean(), half


def agree(told, values):
    mean, half = interval(values)
    assert told["mean"] == pytest.approx(mean, abs=2e-6)
    assert told["ci95"] == (None if half is None else pytest.approx(half, abs=2e-6))


def expected_error(confidence, right):
    """Expected calibration error of one draw, bin by bin."""
    total = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return 100 * total


def check_report(tree, kept):
    """Compute every number of the report again; return how many rows were."""
    accuracies = {}
    for row in tree["rows"]:
        place, metrics = (row["split"], row["method"], row["shots"]), row["metrics"]
        if row["split"] == "harmonic":
            base, novel = (accuracies[half, *place[1:]] for half in ("base", "novel"))
            accuracies[place] = 2 / (1 / base + 1 / novel)
        else:
            answers = kept.find(row["method"], row["shots"], row["split"])
            labels = kept.group(row["split"]).labels
            right = answers.predicted == labels
            accuracies[place] = 100 * right.mean(1)
            by_class = [right[:, labels == label].mean(1) for label in np.unique(labels)]
            agree(metrics["class_mean_accuracy"], 100 * np.mean(by_class, axis=0))
            confidence = answers.confidence.astype(float)
            errors = [expected_error(c, r) for c, r in zip(confidence, right, strict=True)]
            agree(metrics["calibration_error"], errors)
            agree(metrics["nll"], answers.nll.astype(float).mean(1))
            np.testing.assert_allclose(answers.truth[right], answers.confidence[right], rtol=1e-5)
        assert metrics["accuracy"]["per_seed"] == pytest.approx(accuracies[place], abs=1e-6)
        agree(metrics["accuracy"], accuracies[place])
    for row in tree["rows"]:
        mine = accuracies[row["split"], row["method"], row["shots"]]
        assert bool(row["versus"]) == (row["method"] != "zero_shot")
        for other, difference in row["versus"].items():
            agree(difference["accuracy"], mine - accuracies[row["split"], other, row["shots"]])
    return len(tree["rows"])
