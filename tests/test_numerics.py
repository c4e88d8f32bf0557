import numpy as np
import pytest
from scipy.special import logsumexp

from fsclip_jax.numerics import log_sum_exp


@pytest.mark.parametrize("shape", [(3,), (5, 2), (2, 3, 7)])
def test_log_sum_exp_is_that_of_scipy(shape):
    x = np.random.default_rng(0).normal(0, 300, shape)
    x[..., 0] = -np.inf
    np.testing.assert_allclose(log_sum_exp(x), logsumexp(x, axis=-1), rtol=1e-12)


def test_log_sum_exp_of_nothing_but_minus_infinity():
    with np.errstate(all="raise"):
        assert log_sum_exp(np.full((1, 2), -np.inf)).tolist() == [-np.inf]
