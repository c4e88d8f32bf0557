"""Run lengths of masks: those of pycocotools, and no other decides what is written where."""

import numpy as np
import pytest

from fsclip_jax.data.masks import decode_mask, encode_mask
from fsclip_jax.errors import UserError


@pytest.mark.parametrize("seed", range(20))
def test_what_pycocotools_encodes_comes_back(seed):
    pytest.importorskip("pycocotools")
    rng = np.random.default_rng(seed)
    coarse = rng.random(rng.integers(1, 9, 2)) < rng.random()
    mask = np.kron(coarse, np.ones(rng.integers(1, 60, 2), bool)).astype(bool)
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        ([10**9, 10**9], "0120"),
        ([2, 2], "0o9999999"),
        ([2, 2], "0120" * 1000),
        ([2, 2], "P" * 100_000),
        ([2, 2], "0"),
        ([2, 2], ""),
        ([2, 2], "4@4"),
        ([2, 2], "\0\x7fé"),
    ],
)
def test_run_lengths_that_do_not_fill_the_size(size, counts):
    with pytest.raises(UserError, match="the run lengths of a mask") as caught:
        decode_mask({"size": size, "counts": counts})
    assert len(str(caught.value)) < 200
