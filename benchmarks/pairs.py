"""Time two programs in turn, so that a disturbance of the machine meets both."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Pairs(NamedTuple):
    """Seconds of each run, and the median over the pairs of their ratio."""

    published: list[float]
    ours: list[float]

    @property
    def ratio(self) -> float:
        """Median over the pairs of published / ours."""
        return statistics.median(p / o for p, o in zip(self.published, self.ours, strict=True))


def seconds(run: Callable[[int], object], repeat: int) -> float:
    """Return the wall time of one of ``repeat`` runs; ``run(n)`` does n and waits for the last."""
    start = time.perf_counter()
    run(repeat)
    return (time.perf_counter() - start) / repeat


def run_pairs(
    published: Callable[[int], object], ours: Callable[[int], object], count: int, repeat: int = 1
) -> Pairs:
    """Run both once to warm up, then ``count`` times in turn.

    A turn is ``repeat`` runs, so that the threads which one library leaves spinning for a moment
    when it is done cost the other little. Times are of one run.
    """
    seconds(published, repeat), seconds(ours, repeat)
    times = [(seconds(published, repeat), seconds(ours, repeat)) for _ in range(count)]
    return Pairs([p for p, _ in times], [o for _, o in times])


def report(rows: list[tuple[str, Pairs]]) -> None:
    """Print the table and, last, ``ratio X``: the smallest of the medians."""
    print(f"{'size':<16}{'published ms':>14}{'ours ms':>12}{'ratio':>8}")
    for name, pairs in rows:
        published, ours = (1e3 * statistics.median(x) for x in pairs)
        print(f"{name:<16}{published:>14.2f}{ours:>12.2f}{pairs.ratio:>8.2f}")
    print(f"ratio {min(pairs.ratio for _, pairs in rows):.2f}")
