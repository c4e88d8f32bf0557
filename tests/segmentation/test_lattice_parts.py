"""Windows, lattices and parts: plain averages over pixels give the same numbers."""

import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fsclip_jax.segmentation.lattice import Lattice, cut_windows, enlarge, stitch
from fsclip_jax.segmentation.parts import (
    count_labels,
    cut_segments,
    mask_weights,
    part_weights,
    point_weights,
)


@pytest.mark.parametrize("lattice", [Lattice(32, 32, 4), Lattice(32, 32, 1), Lattice(24, 12, 3)])
@pytest.mark.parametrize("shape", [(64, 96), (70, 51), (20, 33)])
def test_a_patch_is_told_by_what_is_at_its_point(lattice, shape):
    """The mean colour of a patch, stitched, is the mean colour around the point."""
    height, width = shape
    slope = np.linspace(0, 200, height)[:, None] + np.linspace(0, 50, width)
    picture = Image.fromarray(np.repeat(slope[..., None], 3, -1).astype(np.uint8))
    rows, columns = lattice.shape(height, width)
    windows = np.stack(list(cut_windows(picture, lattice)))
    side = lattice.size // lattice.grid
    cells = windows[..., 0].reshape(len(windows), lattice.grid, side, lattice.grid, side)
    patches = cells.mean((2, 4)).reshape(len(windows), -1, 1)
    found = stitch(patches, lattice, rows, columns)[..., 0]
    ys = (np.arange(rows) + 0.5) * 200 / rows
    xs = (np.arange(columns) + 0.5) * 50 / columns
    inside = (slice(2, -2), slice(2, -2)) if lattice.grid == 1 else (slice(1, -1), slice(1, -1))
    np.testing.assert_allclose(found[inside], (ys[:, None] + xs)[inside], atol=4)


def test_windows_are_cut_one_by_one():
    """Of a picture of 1,800 x 1,800 they would be 130 MB together."""
    lattice = Lattice(64, 32, 1)
    tracemalloc.start()
    count = sum(window.shape == (32, 32, 3) for window in cut_windows(page(1800), lattice))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 112**2
    assert peak < 20e6


def page(side):
    return Image.new("RGB", (side, side), "red")


def test_every_point_is_covered():
    for lattice in (Lattice(32, 32, 7), Lattice(32, 32, 1), Lattice(32, 28, 2)):
        rows, columns = lattice.shape(100, 60)
        count = len(lattice.starts(rows)) * len(lattice.starts(columns))
        ones = np.ones((count, lattice.grid**2, 1))
        assert (stitch(ones, lattice, rows, columns) == 1).all()


@given(st.integers(0, 30))
def test_weights_average_what_enlarge_interpolates(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, (12, 18)).astype(np.int32)
    labels[0, :4] = np.arange(4)
    values = rng.standard_normal((3, 5, 2)).astype(np.float32)
    fine = np.asarray(enlarge(jnp.asarray(values), 12, 18))
    expected = np.stack([fine[labels == part].mean(0) for part in range(4)])
    found = part_weights(labels, 3, 5) @ values.reshape(15, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    one = mask_weights(labels == 2, 3, 5) @ values.reshape(15, 2)
    np.testing.assert_allclose(one, expected[2], rtol=1e-4, atol=1e-5)


def test_spread_adds_up():
    np.testing.assert_allclose(point_weights(5, 23).sum(1), 1, rtol=1e-6)


def test_segments_follow_edges():
    rng = np.random.default_rng(0)
    page = np.full((64, 64, 3), 200, np.uint8) + rng.integers(0, 4, (64, 64, 1), np.uint8)
    page[16:48, 16:40] = (180, 40, 40)
    labels = cut_segments(page)
    truth = np.zeros((64, 64), np.int32)
    truth[16:48, 16:40] = 1
    counts = count_labels(labels, truth, 2)
    assert counts.sum() == 64 * 64
    assert counts.max(1).sum() > 0.98 * 64 * 64
