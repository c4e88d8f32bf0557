import math

import numpy as np
import pytest

from fsclip_jax.report.intervals import (
    confidence_interval,
    paired_difference,
    student_t_quantile,
)

# Two-sided 95 % points as printed in statistical tables.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042}
TABLE |= {60: 2.000, 120: 1.980}


@pytest.mark.parametrize(("freedom", "bound"), TABLE.items())
def test_quantile_is_that_of_the_tables(freedom, bound):
    assert student_t_quantile(freedom) == pytest.approx(bound, abs=6e-4)


def test_quantile_of_99_percent_and_of_many_draws():
    assert student_t_quantile(5, 0.99) == pytest.approx(4.032, abs=6e-4)
    assert student_t_quantile(599) == pytest.approx(1.9639, abs=2e-4)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 12])
def test_within_the_quantile_lies_that_much_of_the_density(freedom):
    bound = student_t_quantile(freedom, 0.8)
    t = np.linspace(-bound, bound, 200001)
    scale = math.gamma((freedom + 1) / 2) / math.gamma(freedom / 2) / math.sqrt(freedom * math.pi)
    density = scale * (1 + t**2 / freedom) ** (-(freedom + 1) / 2)
    assert np.trapezoid(density, t) == pytest.approx(0.8, abs=1e-8)


def test_interval_by_hand():
    mean, half = confidence_interval([60.0, 62.0, 67.0])
    assert mean == pytest.approx(63.0)
    # s = sqrt((9 + 1 + 16) / 2), t(2) = 4.30265
    assert half == pytest.approx(4.30265 * math.sqrt(13.0) / math.sqrt(3.0), rel=1e-5)


def test_one_draw_has_no_interval():
    assert confidence_interval([50.0]) == (50.0, None)


def test_what_draws_share_cancels_in_the_paired_difference():
    luck = np.array([-10.0, 0.0, 10.0])
    assert paired_difference(50 + luck + [1, 1.1, 0.9], 50 + luck).ci95 < 0.3
    assert confidence_interval(50 + luck).ci95 > 20


def test_interval_covers_the_truth_about_19_times_in_20():
    rng = np.random.default_rng(0)
    draws = rng.normal(3.0, 2.0, (4000, 3))
    inside = sum(abs(i.mean - 3.0) <= i.ci95 for i in map(confidence_interval, draws))
    assert 0.94 < inside / 4000 < 0.96
