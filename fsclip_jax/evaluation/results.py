"""From the numbers of the draws to the rows of a report."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fsclip_jax.evaluation.metrics import harmonic_mean
from fsclip_jax.evaluation.predictions import Predicted
from fsclip_jax.fitting.fitted import Predictions
from fsclip_jax.fitting.methods import UNTRAINED
from fsclip_jax.report.intervals import confidence_interval, paired_difference
from fsclip_jax.report.rows import Accuracy, Difference, Row


class Result(NamedTuple):
    """Numbers of one method, at one number of shots, on one group; see ``Row``.

    ``told`` are the answers that they were computed from, [draw query], if they are to be kept.
    """

    per_draw: np.ndarray
    selection: Mapping[str, Any]
    class_mean: float | None = None
    calibration_error: float | None = None
    negative_log_likelihood: float | None = None
    fit_seconds: float | None = None
    predict_us_per_query: float | None = None
    state_bytes: int | None = None
    told: Predictions | None = None


def harmonic_results(
    results: Mapping[tuple[str, str, int], Result], names: Sequence[str], shots: Sequence[int]
) -> dict[tuple[str, str, int], Result]:
    """Take the harmonic mean of base and novel, draw by draw.

    Args:
        results: numbers by group, method and shots.
        names: the methods.
        shots: the numbers of shots.

    Returns:
        Numbers of the group ``harmonic``.
    """
    made = {}
    for name in names:
        for shot in shots:
            base, novel = results["base", name, shot], results["novel", name, shot]
            mean = harmonic_mean(base.per_draw, novel.per_draw)
            made["harmonic", name, shot] = Result(mean, {})
    return made


def mean_results(
    results: Mapping[tuple[str, str, int], Result], name: str, groups: Sequence[str]
) -> dict[tuple[str, str, int], Result]:
    """Average groups, draw by draw.

    Args:
        results: numbers by group, method and shots.
        name: of the group that is made.
        groups: the groups to average. One that has a single draw, of all its images, has the
            same number for every draw.

    Returns:
        Numbers of the group ``name``.
    """
    made = {}
    for method, shot in dict.fromkeys(place[1:] for place in results):
        each = [results[group, method, shot].per_draw for group in groups]
        draws = max(map(len, each))
        mean = np.mean([np.broadcast_to(values, draws) for values in each], axis=0)
        made[name, method, shot] = Result(mean, {})
    return made


def rows_of(results: Mapping[tuple[str, str, int], Result]) -> tuple[Row, ...]:
    """Turn numbers into rows, with intervals and paired differences.

    Args:
        results: numbers by group, method and shots.

    Returns:
        The rows: group by group, in the order of the methods, then of the shots.
    """
    groups = list(dict.fromkeys(group for group, _, _ in results))
    order = sorted(results, key=lambda place: groups.index(place[0]))
    rows = []
    for group, name, shot in order:
        result = results[group, name, shot]
        versus = {}
        for other in ("zero_shot", name + UNTRAINED):
            reference = results.get((group, other, shot))
            if reference is not None and other != name:
                pair = paired_difference(result.per_draw, reference.per_draw)
                versus[other] = Difference(*pair)
        rows.append(
            Row(
                method=name,
                shots=shot,
                split=group,
                accuracy=Accuracy(
                    *confidence_interval(result.per_draw), tuple(map(float, result.per_draw))
                ),
                selection=result.selection,
                fit_seconds=result.fit_seconds,
                predict_us_per_query=result.predict_us_per_query,
                state_bytes=result.state_bytes,
                class_mean_accuracy=result.class_mean,
                calibration_error=result.calibration_error,
                negative_log_likelihood=result.negative_log_likelihood,
                versus=versus,
            )
        )
    return tuple(rows)


def kept_answers(
    results: Mapping[tuple[str, str, int], Result], ways: Mapping[str, int]
) -> tuple[Predicted, ...]:
    """Return the answers that the results carry, in the order of the rows of the report.

    Args:
        results: numbers by group, method and shots.
        ways: classes that a group is told apart among, by its name.

    Returns:
        The answers; none of results that carry none.
    """
    groups = list(dict.fromkeys(group for group, _, _ in results))
    kept = []
    for group, name, shot in sorted(results, key=lambda place: groups.index(place[0])):
        told = results[group, name, shot].told
        if told is not None:
            small = np.uint16 if ways[group] <= 2**16 else np.uint32
            predicted = np.asarray(told.predicted).astype(small)
            kept.append(
                Predicted(
                    name,
                    shot,
                    group,
                    predicted,
                    np.asarray(told.confidence, np.float32),
                    np.asarray(told.nll, np.float32),
                )
            )
    return tuple(kept)
