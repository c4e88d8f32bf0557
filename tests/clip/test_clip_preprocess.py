import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from fsclip_jax.clip.layout_hf import hf_preprocess, hf_preprocess_values
from fsclip_jax.clip.layout_open_clip import open_clip_preprocess, open_clip_preprocess_values
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.siglip import SIGLIP
from fsclip_jax.errors import UserError

SIZES = [(32, 32), (33, 32), (32, 35), (101, 67), (31, 97), (640, 479), (20, 21), (7, 300), (1, 5)]
MEAN, STD = (0.2, 0.5, 0.7), (0.3, 0.2, 0.4)
HALF = (0.5, 0.5, 0.5)


def picture(size, mode="RGB"):
    width, height = size
    bands = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.RandomState(width).randint(0, 256, (height, width, bands), np.uint8)
    if mode == "P":
        image = Image.fromarray(noise[..., 0], "L").convert("P")
        image.info["transparency"] = 3
        return image
    return Image.fromarray(noise[..., 0] if bands == 1 else noise).convert(mode)


def processor(**settings):
    # The one that works on PIL images and needs neither torch nor torchvision.
    module = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    return module.CLIPImageProcessorPil(**settings)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", [32, 45])
def test_equals_the_processor_of_transformers(size, target):
    image = picture(size)
    theirs = processor(
        size={"shortest_edge": target},
        crop_size={"height": target, "width": target},
        image_mean=list(MEAN),
        image_std=list(STD),
    )(image, return_tensors="np")["pixel_values"][0]
    ours = Preprocess(target, MEAN, STD)
    np.testing.assert_allclose(
        np.asarray(ours.normalize(ours.crop(image))), theirs.transpose(1, 2, 0), atol=2e-6
    )


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA"])
def test_every_mode_is_converted_as_transformers_does(mode):
    image = picture((50, 41), mode)
    theirs = processor(do_rescale=False, do_normalize=False)(image, return_tensors="np")
    ours = Preprocess(224).crop(image)
    assert ours.dtype == np.uint8
    np.testing.assert_array_equal(ours, theirs["pixel_values"][0].transpose(1, 2, 0))


@pytest.mark.parametrize(("width", "left"), [(32, 0), (33, 0), (35, 2), (37, 2), (39, 4)])
def test_open_clip_rounds_half_a_margin_to_even(width, left):
    image = picture((width, 32))
    ours = Preprocess(32, odd_margin="round").crop(image)
    np.testing.assert_array_equal(ours, np.asarray(image)[:, left : left + 32])


def test_normalize_takes_any_batch_axes():
    pixels = np.random.RandomState(0).randint(0, 256, (2, 3, 4, 5, 3), np.uint8)
    ours = Preprocess(4, MEAN, STD).normalize(jnp.asarray(pixels))
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, (pixels / 255 - MEAN) / STD, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("filter_", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(50, 80), (80, 50), (48, 48), (1, 1), (7, 300)])
def test_squashing_equals_the_image_processor_of_siglip(shape, filter_):
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    image = Image.fromarray(np.random.RandomState(0).randint(0, 256, (*shape, 3), np.uint8))
    ours = Preprocess(48, HALF, HALF, fit="squash", resample=filter_)
    theirs = SiglipImageProcessorPil(**hf_preprocess_values(ours, SIGLIP.processor))
    theirs = theirs(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    np.testing.assert_allclose(ours.normalize(ours.crop(image)), theirs, atol=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"size": {"height": 32, "width": 32}, "resample": 2},
        {"size": {"height": 40, "width": 40}, "image_mean": list(MEAN)},
        {"size": {"height": 32, "width": 32}, "do_center_crop": None},
    ],
)
def test_what_siglip_leaves_out_is_as_its_processor_has_it(values):
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    theirs, ours = SiglipImageProcessorPil(**values), hf_preprocess(values, SIGLIP.preprocess)
    assert (ours.size, ours.size) == (theirs.size["height"], theirs.size["width"])
    assert ours.mean == tuple(theirs.image_mean)
    assert ours.std == tuple(theirs.image_std)
    assert ours.fit == "squash"
    assert {"bilinear": 2, "bicubic": 3}[ours.resample] == theirs.resample


def test_settings_survive_both_layouts():
    squash = Preprocess(48, HALF, HALF, fit="squash", resample="bilinear")
    values = hf_preprocess_values(squash, SIGLIP.processor)
    assert hf_preprocess(values, SIGLIP.preprocess) == squash
    squash = dataclasses.replace(squash, odd_margin="round")
    assert open_clip_preprocess(open_clip_preprocess_values(squash), 48) == squash
    ours = Preprocess(48, MEAN, STD)
    assert hf_preprocess(hf_preprocess_values(ours)) == ours
    rounded = Preprocess(48, MEAN, STD, odd_margin="round")
    assert open_clip_preprocess(open_clip_preprocess_values(rounded), 48) == rounded


def test_old_spellings_are_read():
    values = {"size": 48, "crop_size": 48, "resample": 3, "image_mean": MEAN, "image_std": STD}
    assert hf_preprocess(values) == Preprocess(48, MEAN, STD)
    assert open_clip_preprocess({"size": [48, 48]}, 48).size == 48


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (
            {"resample": 1, "size": {"shortest_edge": 224}, "do_center_crop": False},
            ["resample=1", "do_center_crop=False"],
        ),
        ({"size": {"shortest_edge": 224}, "crop_size": 256}, ["256", "224"]),
        ({"size": {"height": 200, "width": 224}}, ["200"]),
        ({"rescale_factor": 1 / 127.5}, ["rescale_factor"]),
        ({"image_mean": [0.5]}, ["image_mean", "three numbers"]),
    ],
)
def test_other_preprocessing_is_refused_by_name(values, named):
    with pytest.raises(UserError) as caught:
        hf_preprocess(values)
    assert all(part in str(caught.value) for part in named)


@pytest.mark.parametrize(
    "values", [{"interpolation": "nearest"}, {"resize_mode": "longest"}, {"size": 50}]
)
def test_other_open_clip_preprocessing_is_refused(values):
    with pytest.raises(UserError, match=next(iter(values))):
        open_clip_preprocess(values, 48)
