"""Cut-outs, backdrops and scenes: what is said to be visible is what one sees."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fsclip_jax.scenes import compose as compose_module
from fsclip_jax.scenes.backdrop import cloud, draw_backdrop
from fsclip_jax.scenes.compose import SIDES, VISIBLE, compose
from fsclip_jax.scenes.cutout import cut_out, is_one_thing
from fsclip_jax.scenes.roster import LINE_ART, choose_things

RED, BLUE = Image.new("RGBA", (40, 40), "red"), Image.new("RGBA", (40, 30), "blue")


def disc(side=64, radius=20, colour=(200, 30, 30)):
    """A disc with smooth edges on white, and its true coverage."""
    fine = 8
    y, x = np.mgrid[: side * fine, : side * fine] / fine - side / 2 + 0.5 / fine
    cover = (np.hypot(x, y) < radius).reshape(side, fine, side, fine).mean((1, 3))
    pixels = cover[..., None] * np.array(colour) + (1 - cover[..., None]) * 255
    return Image.fromarray(np.rint(pixels).astype(np.uint8)), cover


def test_cut_out_finds_coverage_and_colour():
    picture, cover = disc()
    art = np.asarray(cut_out(picture)).astype(float)
    inside = cover[12:52, 12:52]
    assert art.shape == (40, 40, 4)
    assert np.abs(art[..., 3] / 255 - inside).max() < 0.05
    seen = art[..., 3] > 64  # where there is any paint, it is the disc's
    assert np.abs(art[seen][:, :3] - (200, 30, 30)).max() < 8


def test_enclosed_white_stays():
    picture, _ = disc()
    picture.paste((255, 255, 255), (28, 28, 36, 36))
    art = np.asarray(cut_out(picture))
    assert (art[16:24, 16:24, 3] == 255).all()


def test_scattered_and_thin_things_are_left_out():
    assert is_one_thing(cut_out(disc()[0]))
    two = Image.new("RGBA", (60, 20))
    two.paste("red", (0, 0, 20, 20))
    two.paste("red", (40, 0, 60, 20))
    assert not is_one_thing(two)
    assert not is_one_thing(Image.new("RGBA", (60, 10), "red"))


def test_backdrops_are_varied_and_of_one_seed():
    drawn = [draw_backdrop(np.random.default_rng(n), 48) for n in range(12)]
    again = [draw_backdrop(np.random.default_rng(n), 48) for n in range(12)]
    np.testing.assert_array_equal(drawn, again)
    assert len({one.tobytes() for one in drawn}) == 12


def test_a_cloud_is_smooth_where_it_has_one_octave():
    noise = cloud(np.random.default_rng(0), 128, octaves=1)
    assert np.abs(np.diff(noise, axis=0)).max() < 0.06


@given(st.integers(0, 40))
def test_masks_are_what_one_sees(seed):
    """On flat art a pixel inside a mask has the art's colour, whatever lies in front of it."""
    arts = [RED, BLUE, RED, BLUE, RED]
    scene = compose(np.random.default_rng(seed), arts)
    assert [one.item for one in scene.objects] == sorted(one.item for one in scene.objects)
    total = np.zeros(scene.pixels.shape[:2], int)
    for one in scene.objects:
        total += one.mask
        assert one.mask.sum() >= VISIBLE * one.whole
        colour = (255, 0, 0) if one.item % 2 == 0 else (0, 0, 255)
        away = np.abs(scene.pixels[one.mask].astype(int) - colour).max(1)
        assert np.mean(away <= 2) > 0.85  # the rest is the outline, half covered
    assert total.max() <= 1


def test_objects_have_the_sizes_they_should(monkeypatch):
    monkeypatch.setattr(compose_module, "TURN", 0.0)
    longest = [
        max(np.ptp(np.nonzero(one.mask), axis=1) + 1)
        for seed in range(30)
        for one in compose(np.random.default_rng(seed), [RED]).objects
    ]
    assert min(longest) >= SIDES[0] - 1
    assert max(longest) <= SIDES[1] + 1
    assert np.ptp(longest) > 25


@pytest.fixture(scope="module")
def things():
    return choose_things(4)


def test_classes_and_artists_of_the_splits(things):
    assert [thing.novel for thing in things] == [False] * 4 + [True] * 4
    for thing in things:
        artists = {name: {one.family for one in some} for name, some in thing.drawings.items()}
        assert len(artists["train"]) == 4
        assert artists["test"]
        assert thing.novel or artists["val"]
        assert not artists["train"] & artists["test"]
        assert not artists["train"] & artists["val"]
        assert not artists["val"] & artists["test"]
        sets = {one.key.split("/")[0] for some in thing.drawings.values() for one in some}
        assert not sets & set(LINE_ART)
