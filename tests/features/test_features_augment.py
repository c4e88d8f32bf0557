"""Views depend on seed, key and number alone, and cut what was published."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_clip import noise

from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.features.augment import random_box, random_view, view_generator, views_of


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 10_000))
@settings(max_examples=200, deadline=None)
def test_boxes_lie_inside(width, height, seed):
    left, top, right, bottom = random_box(np.random.default_rng(seed), width, height)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height


def test_area_and_aspect_cover_the_published_range():
    rng = np.random.default_rng(0)
    boxes = np.array([random_box(rng, 400, 400) for _ in range(3000)])
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    area = width * height / 400**2
    assert area.min() > 0.495
    assert area.max() <= 1
    assert area.min() < 0.52
    assert area.max() > 0.9
    log_aspect = np.log(width / height)
    assert abs(log_aspect).max() < math.log(4 / 3) + 0.01
    assert abs(log_aspect.mean()) < 0.02  # as often upright as lying
    assert abs(boxes[:, 0].mean() - (400 - boxes[:, 2]).mean()) < 5


def test_a_very_long_image_gets_the_largest_centred_box():
    assert random_box(np.random.default_rng(0), 1000, 10) == (493, 0, 506, 10)


def test_a_view_is_deterministic_and_differs_from_the_others():
    image, prepare = noise(0), Preprocess(32)
    views = views_of(image, prepare, "a.png", 4, 7)
    assert views.shape == (4, 32, 32, 3)
    np.testing.assert_array_equal(views, views_of(image, prepare, "a.png", 4, 7))
    np.testing.assert_array_equal(views[0], prepare.crop(image))
    # The first views do not depend on how many follow.
    np.testing.assert_array_equal(views[:2], views_of(image, prepare, "a.png", 2, 7))
    others = [views_of(image, prepare, "b.png", 2, 7), views_of(image, prepare, "a.png", 2, 8)]
    for other in (views[2], views[3], *(pair[1] for pair in others)):
        assert (other != views[1]).any()


def test_half_of_the_views_are_mirrored():
    ramp = np.repeat(np.arange(0, 250, 5, np.uint8)[None, :, None], 50, 0).repeat(3, 2)
    image = Image.fromarray(ramp)
    views = [random_view(image, 16, view_generator(0, str(i), 1)) for i in range(200)]
    mirrored = sum(int(view[8, 0, 0] > view[8, -1, 0]) for view in views)
    assert 70 < mirrored < 130


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "LA"])
def test_every_mode_of_image_can_be_cut(mode):
    views = views_of(noise(0).convert(mode), Preprocess(32), "k", 2, 0)
    assert views.shape == (2, 32, 32, 3)
    assert views.dtype == np.uint8
