"""The numbers of an evaluation before they are rows: by group, method and shots."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fsclip_jax.evaluation.metrics import harmonic_mean
from fsclip_jax.evaluation.predictions import Predicted
from fsclip_jax.fitting.fitted import Predictions
from fsclip_jax.report.measured import Measured, Place, rows_of
from fsclip_jax.report.rows import Row

Results = Mapping[Place, "Result"]


class Result(NamedTuple):
    """What was measured, and the predictions [draw query] behind it if they are to be kept."""

    measured: Measured
    predictions: Predictions | None = None

    @property
    def accuracy(self) -> np.ndarray:
        """Percent, one number a draw."""
        return self.measured.metrics["accuracy"]


def _derived(accuracy: np.ndarray, parts: Sequence[Result]) -> Result:
    """A number that is computed from others; it saw what they saw."""
    saw = tuple(dict.fromkeys(name for part in parts for name in part.measured.saw))
    return Result(Measured({"accuracy": accuracy}, {}, saw))


def harmonic_results(results: Results) -> dict[Place, Result]:
    """Take the harmonic mean of base and novel, draw by draw, where a method has both."""
    made = {}
    for split, method, shots in results:
        novel = results.get(("novel", method, shots))
        if split == "base" and novel:
            base = results[split, method, shots]
            mean = harmonic_mean(base.accuracy, novel.accuracy)
            made["harmonic", method, shots] = _derived(mean, (base, novel))
    return made


def mean_results(results: Results, name: str, groups: Sequence[str]) -> dict[Place, Result]:
    """Average groups, draw by draw, into a group of that name.

    A group that has a single draw, of all its images, has the same number for every draw.
    """
    made = {}
    for method, shots in dict.fromkeys(place[1:] for place in results):
        each = [results[group, method, shots] for group in groups]
        draws = max(len(result.accuracy) for result in each)
        mean = np.mean([np.broadcast_to(result.accuracy, draws) for result in each], axis=0)
        made[name, method, shots] = _derived(mean, each)
    return made


def rows_from(results: Results) -> tuple[Row, ...]:
    """Turn the numbers into rows of a report; see :func:`rows_of`."""
    return rows_of({place: result.measured for place, result in results.items()})


def kept_predictions(results: Results, ways: Mapping[str, int]) -> tuple[Predicted, ...]:
    """Return the predictions that the results carry, in the order of the rows of the report."""
    groups = list(dict.fromkeys(group for group, _, _ in results))
    kept = []
    for group, name, shots in sorted(results, key=lambda place: groups.index(place[0])):
        found = results[group, name, shots].predictions
        if found is not None:
            small = np.uint16 if ways[group] <= 2**16 else np.uint32
            kept.append(
                Predicted(
                    name,
                    shots,
                    group,
                    np.asarray(found.predicted).astype(small),
                    np.asarray(found.confidence, np.float32),
                    np.asarray(found.nll, np.float32),
                )
            )
    return tuple(kept)
