"""The ratio of two programs and how sure it is: what the benchmarks measure by."""

import argparse
import time

import pytest
from pairs import Bound, Pairs, add_bound, bound_of, median_interval, report, run_pairs


def test_the_interval_of_a_median_is_that_of_the_binomial():
    # From the k-th smallest to the k-th largest it covers 1 - 2 P(Bin(n, 1/2) < k).
    for count, place in [(1, 1), (5, 1), (6, 1), (8, 1), (9, 2), (12, 3), (20, 6), (40, 14)]:
        values = [float(x) for x in range(1, count + 1)]
        assert median_interval(values[::-1]) == (place, count + 1 - place)


def test_an_outlier_does_not_widen_the_interval():
    ours = [1.0] * 12
    assert Pairs([1.0] * 11 + [9.0], ours).spread == 0
    assert Pairs([1.0, 2.0] * 6, ours).spread == pytest.approx(1 / 1.5)


def test_pairs_are_run_until_the_ratio_is_known_or_the_bound_is_reached():
    def sleeping(seconds):
        return lambda times: time.sleep(seconds * times)

    steady = run_pairs(sleeping(0.03), sleeping(0.01), Bound(6, within=0.2, most=20))
    assert steady.ratio == pytest.approx(3, rel=0.15)
    assert 6 <= len(steady.ours) < 60
    lengths = iter([0.001, 0.004] * 1000)
    wild = run_pairs(
        sleeping(0.001), lambda _: time.sleep(next(lengths)), Bound(3, 0.0, most=0.2), 1
    )
    assert wild.spread > 0
    assert len(wild.ours) >= 3


def test_a_clock_of_the_processor_does_not_count_sleep():
    def sleep(_):
        time.sleep(0.05)

    pairs = run_pairs(sleep, sleep, Bound(2, most=0), 1, time.process_time)
    assert max(pairs.published + pairs.ours) < 0.04


def test_the_flags_and_the_last_line(capsys):
    parser = argparse.ArgumentParser()
    add_bound(parser, 4)
    assert bound_of(parser.parse_args(["--within", "0.1"])) == Bound(4, 0.1)
    report([("a", Pairs([2.0] * 6, [1.0] * 6)), ("b", Pairs([3.0] * 6, [2.0] * 6))])
    lines = capsys.readouterr().out.splitlines()
    assert "spread" in lines[0]
    assert lines[-1] == "ratio 1.50"
