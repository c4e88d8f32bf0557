"""How much of a job on many hosts is lost to failures, by the time between its checkpoints.

    python scripts/failures.py                                      the table of docs/scaling.md
    python scripts/failures.py --hosts 256 --mtbf-hours 24 --save 2 --restart 60

Hosts fail one by one, each after times of its own; one that fails ends the job on all of them
(``fsclip train`` does), which begins again from its last checkpoint. What was computed since is
redone. Beside what is simulated stands what the closed form says: Young, CACM 1974; Daly, FGCS
2006. The table is in minutes lost of every hour of every host: redone, saving, starting again.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

RUNS = 40
"""Jobs that are simulated for one number."""

FAILURES = 50
"""That a simulated job meets, on average: as much work as that takes."""


@dataclass(frozen=True)
class Job:
    """What a job meets; times in seconds.

    Attributes:
        host_mtbf: mean time between failures of one host.
        save: how long the job stands still for a checkpoint.
        restart: from a failure until it computes again.
    """

    hosts: int = 8
    host_mtbf: float = 24 * 3600.0
    save: float = 1.0
    restart: float = 60.0

    @property
    def mtbf(self) -> float:
        """Mean time between failures of the job: of any host."""
        return self.host_mtbf / self.hosts


@dataclass(frozen=True)
class Lost:
    """Seconds of a job by the clock, and what of them was no work."""

    work: float
    redone: float
    saving: float
    starting: float

    @property
    def total(self) -> float:
        """Seconds from beginning to end."""
        return self.work + self.redone + self.saving + self.starting


def simulate(job: Job, interval: float, pieces: int, rng: np.random.Generator) -> Lost:
    """Run one job of so many intervals of work, host by host, failure by failure.

    A failure while it saves or starts again costs that as well. Failed hosts are replaced.
    """

    def life() -> float:
        return -job.host_mtbf * math.log1p(-rng.random())

    due = np.asarray([life() for _ in range(job.hosts)])
    now, left, redone, starting, piece = 0.0, pieces, 0.0, 0.0, interval + job.save
    while True:
        host = int(due.argmin())
        failure = float(due[host])
        whole = min(left, int((failure - now) // piece))
        left, now = left - whole, now + whole * piece
        if not left:
            break
        began = ready = failure
        redone += began - now
        while failure <= ready:
            due[host], ready = failure + life(), failure + job.restart
            host = int(due.argmin())
            failure = float(due[host])
        starting, now = starting + ready - began, ready
    return Lost(pieces * interval, redone, pieces * job.save, starting)


def expected(job: Job, interval: float, pieces: int = 1) -> Lost:
    """Return what the closed form says of the same job.

    With ``x = (interval + save) / mtbf`` a piece is begun ``exp(x)`` times and takes ``mtbf *
    (exp(x) - 1)`` with what is redone; each of the ``exp(x) - 1`` failures takes ``mtbf *
    (exp(restart / mtbf) - 1)`` to start again.
    """
    piece, mtbf = interval + job.save, job.mtbf
    failures = math.expm1(piece / mtbf)
    return Lost(
        pieces * interval,
        pieces * (mtbf * failures - piece),
        pieces * job.save,
        pieces * failures * mtbf * math.expm1(job.restart / mtbf),
    )


def best_interval(job: Job) -> float:
    """Return the seconds of work between checkpoints with which least is lost, by Daly's formula.

    ``sqrt(2 save mtbf)``, Young's, with the next two terms of its series.

    Example:
        >>> round(best_interval(Job(hosts=1, host_mtbf=3600.0, save=2.0)))
        119
    """
    ratio = job.save / (2 * job.mtbf)
    if ratio >= 1:
        return job.mtbf
    return math.sqrt(2 * job.save * job.mtbf) * (1 + math.sqrt(ratio) / 3 + ratio / 9) - job.save


def lost_minutes(work: float, total: float) -> float:
    """Return the minutes of an hour that are no work.

    Example:
        >>> lost_minutes(3.0, 4.0)
        15.0
    """
    return 60 * (1 - work / total)


def minutes_simulated(
    job: Job, interval: float, seed: int = 0, runs: int = RUNS, level: float = 0.95
) -> tuple[float, float, float]:
    """Return the minutes lost of every hour of every host: the mean, and its interval."""
    failing = math.expm1((interval + job.save) / job.mtbf)
    pieces = max(1, round(FAILURES / failing))
    rng = np.random.default_rng(seed)
    totals = [simulate(job, interval, pieces, rng).total for _ in range(runs)]
    half = stats.t.ppf(0.5 + level / 2, runs - 1) * np.std(totals, ddof=1) / math.sqrt(runs)
    mean = float(np.mean(totals))
    each = (lost_minutes(pieces * interval, total) for total in (mean, mean - half, mean + half))
    found, low, high = each
    return found, low, high


def table(job: Job, hosts: Sequence[int], intervals: Sequence[float]) -> str:
    """Lay out minutes lost by interval and hosts: simulated with its interval, closed form."""
    jobs = [replace(job, hosts=count) for count in hosts]
    head = ["work between checkpoints", *(f"{count:,} host{'s' * (count > 1)}" for count in hosts)]
    rows = ["|" + "|".join(head) + "|", "|---" * len(head) + "|"]

    def cell(each: Job, interval: float) -> str:
        formula = expected(each, interval)
        if formula.total > 60 * formula.work:
            return "59 or more"
        found, low, high = minutes_simulated(each, interval)
        closed = lost_minutes(formula.work, formula.total)
        return f"{found:.2f} ±{(high - low) / 2:.2f} ({closed:.2f})"

    for interval in intervals:
        cells = [in_words(interval), *(cell(each, interval) for each in jobs)]
        rows.append("|" + "|".join(cells) + "|")
    bests = [best_interval(each) for each in jobs]
    cells = [
        f"{in_words(best)}: {lost_minutes(1.0, expected(each, best).total / best):.2f}"
        for each, best in zip(jobs, bests, strict=True)
    ]
    return "\n".join([*rows, "|" + "|".join(["**the best, by the formula**", *cells]) + "|"])


def in_words(seconds: float) -> str:
    """Say how long something takes, in two digits.

    Example:
        >>> in_words(0.0042), in_words(90), in_words(7200), in_words(4e8)
        ('4.2 ms', '90 s', '2 h', '13 years')
    """
    for unit, length, most in (
        ("µs", 1e-6, 1e-3),
        ("ms", 1e-3, 1.0),
        ("s", 1.0, 100.0),
        ("min", 60.0, 6000.0),
        ("h", 3600.0, 48 * 3600.0),
        ("days", 86400.0, 700 * 86400.0),
    ):
        if seconds < most:
            return f"{two_digits(seconds / length)} {unit}"
    return f"{two_digits(seconds / (365 * 86400))} years"


def two_digits(number: float) -> str:
    """Round to two digits and write without an exponent.

    Example:
        >>> two_digits(1234.0), two_digits(0.0)
        ('1,200', '0')
    """
    if not number:
        return "0"
    digits = 1 - math.floor(math.log10(abs(number)))
    rounded = round(number, digits)
    return f"{rounded:,.{max(0, digits)}f}".removesuffix(".0")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    job = Job()
    parser.add_argument("--hosts", type=int, nargs="+", default=HOSTS)
    parser.add_argument("--mtbf-hours", type=float, default=job.host_mtbf / 3600, help="of a host")
    parser.add_argument("--save", type=float, default=job.save, help="seconds of a checkpoint")
    parser.add_argument("--restart", type=float, default=job.restart, help="seconds to start again")
    parser.add_argument("--intervals", type=float, nargs="+", default=INTERVALS, help="seconds")
    given = parser.parse_args()
    job = Job(1, 3600 * given.mtbf_hours, given.save, given.restart)
    print(table(job, given.hosts, given.intervals))


HOSTS = (1, 8, 64, 512)
INTERVALS = (10.0, 60.0, 300.0, 1200.0, 3600.0)
"""Of the table, in seconds."""


if __name__ == "__main__":
    main()
