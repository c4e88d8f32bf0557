"""Decoding for a wanted size, and sources that other processes can take."""

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from fsclip_jax.data.emoji import open_emoji
from fsclip_jax.data.folder import open_folder
from fsclip_jax.data.pictures import FileLoader, decode_image


def smooth(width, height, kind):
    """A picture of slow waves as a file of some kind."""
    x, y = np.meshgrid(np.linspace(0, 9, width), np.linspace(0, 7, height))
    pixels = np.stack([np.sin(x), np.cos(y), np.sin(x + y)], -1) * 100 + 128
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("at_least", "size"),
    [(None, (500, 375)), (188, (500, 375)), (187, (500, 375)), (93, (250, 188)), (20, (63, 47))],
)
def test_a_jpeg_is_decoded_small_but_never_too_small(at_least, size):
    image = decode_image(smooth(500, 375, "JPEG"), "a.jpg", at_least=at_least)
    assert image.size == size
    assert at_least is None or min(image.size) >= 2 * at_least or image.size == (500, 375)


def test_nothing_but_jpeg_is_decoded_small():
    data = smooth(500, 375, "PNG")
    assert decode_image(data, "a.png", at_least=20).size == (500, 375)


def test_a_small_decoding_shows_the_same_picture():
    data = smooth(500, 375, "JPEG")
    whole = decode_image(data, "a").resize((64, 48), Image.Resampling.BICUBIC)
    draft = decode_image(data, "a", at_least=64).resize((64, 48), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(whole, float) - np.asarray(draft)).mean() < 1


def test_sources_can_be_sent_to_other_processes(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(smooth(50, 40, "JPEG"))
    for source in (open_emoji(), open_folder(tmp_path)):
        sent = pickle.loads(pickle.dumps(source.load))
        assert sent(1).tobytes() == source.load(1).tobytes()


def test_a_file_loader_hands_the_wanted_size_on(tmp_path):
    (tmp_path / "a.jpg").write_bytes(smooth(500, 375, "JPEG"))
    assert FileLoader(tmp_path, ("a.jpg",))(0, 20).size == (63, 47)
