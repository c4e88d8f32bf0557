"""Time two programs in turn, so that a disturbance of the machine meets both."""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

LEAST = 0.02
"""Seconds of a turn: what takes less is run several times in it, as shorter times are noise."""


@dataclass(frozen=True)
class Bound:
    """When enough pairs are there: ``count`` at least, and then ``within`` or ``most``."""

    count: int = 5
    within: float = 0.05
    """Width of the interval of the ratio, as a share of the ratio."""
    most: float = 20.0
    """Seconds after which no further pair is begun, however wide the interval is."""

    def reached(self, pairs: "Pairs", began: float) -> bool:
        """Say whether no further pair is wanted; ``began`` is of ``time.perf_counter``."""
        if len(pairs.ours) < self.count:
            return False
        return pairs.spread <= self.within or time.perf_counter() - began > self.most


class Pairs(NamedTuple):
    """Seconds of each run, and the median over the pairs of their ratio."""

    published: list[float]
    ours: list[float]

    @property
    def ratios(self) -> list[float]:
        """Published / ours of every pair, the smallest first."""
        return sorted(p / o for p, o in zip(self.published, self.ours, strict=True))

    @property
    def ratio(self) -> float:
        """Median over the pairs of published / ours."""
        return statistics.median(self.ratios)

    @property
    def interval(self) -> tuple[float, float]:
        """Interval of that median, 95 % from six pairs on: outliers do not widen it."""
        return median_interval(self.ratios)

    @property
    def spread(self) -> float:
        """Width of the interval as a share of the ratio."""
        low, high = self.interval
        return (high - low) / self.ratio


def median_interval(values: list[float]) -> tuple[float, float]:
    """Return the order statistics between which the median lies with 95 %; all of few values.

    Whatever the values are distributed like: how many of n lie below is binomial.
    """
    n, below, left = len(values), 0.5 ** len(values), 0
    while left + 1 < n - left - 1 and below <= 0.025:
        left += 1
        below += math.comb(n, left) * 0.5**n
    ranked = sorted(values)
    left -= left > 0
    return ranked[left], ranked[n - 1 - left]


def seconds(
    run: Callable[[int], object], repeat: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the time of one of ``repeat`` runs; ``run(n)`` does n and waits for the last."""
    start = clock()
    run(repeat)
    return (clock() - start) / repeat


def run_pairs(
    published: Callable[[int], object],
    ours: Callable[[int], object],
    bound: Bound,
    repeat: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Pairs:
    """Run both once to warm up, then in turn until the ratio is known or the bound is reached.

    A turn is ``repeat`` runs, so that the threads which one library leaves spinning for a moment
    when it is done cost the other little; unless given, as many as take ``LEAST``. Times are of one
    run, on the wall unless ``clock`` is ``time.process_time``.
    """
    seconds(published, repeat or 1), seconds(ours, repeat or 1)
    each = [repeat or _repeats(run) for run in (published, ours)]
    began, pairs = time.perf_counter(), Pairs([], [])
    while not bound.reached(pairs, began):
        pairs.published.append(seconds(published, each[0], clock))
        pairs.ours.append(seconds(ours, each[1], clock))
    return pairs


def _repeats(run: Callable[[int], object]) -> int:
    return min(1000, math.ceil(LEAST / max(seconds(run, 1), 1e-9)))


def add_bound(parser: argparse.ArgumentParser, count: int = Bound.count) -> None:
    """Add the flags that ``bound_of`` reads."""
    parser.add_argument("--pairs", type=int, default=count, help="pairs of runs, at least")
    parser.add_argument(
        "--within", type=float, default=Bound.within, help="pairs until the interval is this wide"
    )
    parser.add_argument(
        "--most", type=float, default=Bound.most, help="seconds of a row after which it is left"
    )


def bound_of(given: argparse.Namespace) -> Bound:
    """Return what the flags say."""
    return Bound(given.pairs, given.within, given.most)


def report(rows: list[tuple[str, Pairs]]) -> None:
    """Print the table and, last, ``ratio X``: the smallest of the medians."""
    print(f"{'size':<16}{'published ms':>14}{'ours ms':>12}{'ratio':>8}{'spread':>9}{'pairs':>7}")
    for name, pairs in rows:
        published, ours = (1e3 * statistics.median(x) for x in pairs)
        print(
            f"{name:<16}{published:>14.2f}{ours:>12.2f}{pairs.ratio:>8.2f}"
            f"{pairs.spread:>9.1%}{len(pairs.ours):>7}"
        )
    print(f"ratio {min(pairs.ratio for _, pairs in rows):.2f}")
