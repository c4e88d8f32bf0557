"""Jobs that lose hosts: what is simulated is what the closed form says, and what must be so."""

import dataclasses
import math

import numpy as np
import pytest
from failures import (
    Job,
    best_interval,
    expected,
    in_words,
    lost_minutes,
    minutes_simulated,
    simulate,
    table,
)

JOB = Job(hosts=16, host_mtbf=8 * 3600.0, save=5.0, restart=90.0)


@pytest.mark.parametrize("hosts", [1, 8, 100])
@pytest.mark.parametrize("interval", [20.0, 300.0, 2000.0])
@pytest.mark.parametrize(("save", "restart"), [(0.0, 0.0), (0.5, 60.0), (30.0, 400.0)])
def test_the_simulation_agrees_with_the_closed_form(hosts, interval, save, restart):
    job = Job(hosts, 24 * 3600.0, save, restart)
    _, low, high = minutes_simulated(job, interval, runs=200, level=0.999)
    formula = expected(job, interval)
    assert low <= lost_minutes(formula.work, formula.total) <= high
    assert high - low < 4


def test_every_part_of_what_is_lost_agrees():
    """What is redone and starting again, each by its own mean over jobs."""
    rng, pieces, interval = np.random.default_rng(1), 60, 600.0
    runs = [simulate(JOB, interval, pieces, rng) for _ in range(300)]
    formula = expected(JOB, interval, pieces)
    for name in ("redone", "starting"):
        values = [getattr(run, name) for run in runs]
        error = np.std(values, ddof=1) / math.sqrt(len(values))
        assert abs(np.mean(values) - getattr(formula, name)) < 3.5 * error, name
    assert {run.work for run in runs} == {formula.work} == {pieces * interval}
    assert {run.saving for run in runs} == {formula.saving} == {pieces * JOB.save}


def test_without_failures_checkpoints_are_all_that_is_lost():
    job = dataclasses.replace(JOB, host_mtbf=1e12)
    run = simulate(job, 100.0, 50, np.random.default_rng(0))
    assert (run.work, run.saving, run.redone, run.starting) == (5000.0, 250.0, 0.0, 0.0)
    assert lost_minutes(run.work, run.total) == pytest.approx(60 * 5 / 105)


def test_rare_failures_cost_half_an_interval_each():
    """To first order: a failure every mtbf, which costs half a piece and a restart."""
    job = Job(1, 1e6, 1.0, 10.0)
    formula, piece = expected(job, 100.0), 101.0
    assert formula.redone == pytest.approx(piece / job.mtbf * piece / 2, rel=1e-3)
    assert formula.starting == pytest.approx(piece / job.mtbf * job.restart, rel=1e-3)


@pytest.mark.parametrize("hosts", [1, 16, 256])
def test_no_interval_is_much_better_than_the_formula_s(hosts):
    job = dataclasses.replace(JOB, hosts=hosts)
    best = best_interval(job)

    def lost(interval):
        formula = expected(job, interval)
        return lost_minutes(formula.work, formula.total)

    others = [lost(best * factor) for factor in np.geomspace(0.1, 10, 201)]
    assert lost(best) <= min(others) + 0.05
    assert lost(best) < min(lost(best / 3), lost(best * 3))


def test_young_s_square_root_is_what_is_left_where_checkpoints_are_cheap():
    job = Job(1, 1e9, 1.0, 0.0)
    assert best_interval(job) == pytest.approx(math.sqrt(2 * job.save * job.mtbf), rel=1e-3)
    assert best_interval(Job(1, 10.0, 100.0)) == 10.0


def test_the_table_has_a_row_an_interval_and_is_the_same_every_time():
    job = Job(host_mtbf=24 * 3600.0, save=1.0, restart=60.0)
    text = table(job, (1, 512), (10.0, 3600.0))
    assert text == table(job, (1, 512), (10.0, 3600.0))
    rows = [row.strip("|").split("|") for row in text.splitlines()]
    assert rows[0] == ["work between checkpoints", "1 host", "512 hosts"]
    assert [row[0] for row in rows[2:]] == ["10 s", "60 min", "**the best, by the formula**"]
    assert rows[3][2] == "59 or more", "a job that all but stands still is not waited for"
    closed = expected(dataclasses.replace(job, hosts=1), 10.0)
    assert rows[2][1].endswith(f"({lost_minutes(closed.work, closed.total):.2f})")


def test_times_are_said_in_two_digits():
    said = [in_words(seconds) for seconds in (3e-6, 0.05, 1, 59.6, 100, 7200, 2e5, 1e9)]
    assert said == ["3 µs", "50 ms", "1 s", "60 s", "1.7 min", "2 h", "2.3 days", "32 years"]
