"""Features of regions: which pixels are cut out, and that batches change nothing."""

import numpy as np
import pytest
from PIL import Image

from fsclip_jax.clip.load import load_clip
from fsclip_jax.data.coco_files import Picture
from fsclip_jax.detection.crops import cut_boxes, open_picture, region_features, usable
from fsclip_jax.errors import UserError
from fsclip_jax.features.images import image_encoder


@pytest.fixture(scope="module")
def mini():
    return load_clip("mini")


def picture(rng, width=90, height=60):
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_a_crop_is_the_resized_box_and_its_surroundings(mini, rng):
    image = picture(rng)
    side = mini.preprocess.size
    box = np.array([[30.0, 20, 20, 10]])
    near, wide = cut_boxes(image, box, mini)
    bicubic = Image.Resampling.BICUBIC
    # Around the same centre, half as much again: 35..45 and 15..35 of the picture.
    for crop, corners in ((near, (30, 20, 50, 30)), (wide, (25, 17.5, 55, 32.5))):
        assert (crop == np.asarray(image.resize((side, side), bicubic, box=corners))).all()


def test_a_crop_stays_within_the_picture(mini, rng):
    image = picture(rng)
    box = np.array([[80.0, 50, 20, 20]])
    (crop,) = cut_boxes(image, box, mini, (1.0,))
    side = mini.preprocess.size
    corner = image.resize((side, side), Image.Resampling.BICUBIC, box=(80, 50, 90, 60))
    assert (crop == np.asarray(corner)).all()
    assert usable(np.array([[200.0, -50, 1, 1]]), 90, 60).tolist() == [[89, 0, 90, 1]]


def test_batches_over_several_pictures_give_what_single_crops_give(mini, rng):
    images = [picture(rng) for _ in range(4)]
    boxes = [np.concatenate([rng.uniform(0, 30, (n, 2)), rng.uniform(5, 30, (n, 2))], 1) for n in
             (3, 0, 1, 5)]  # fmt: skip
    found = list(region_features(mini, zip(images, boxes, strict=True), batch=4))
    assert [len(features) for features in found] == [3, 0, 1, 5]
    encode = image_encoder(mini)
    for image, mine, features in zip(images, boxes, found, strict=True):
        for box, feature in zip(mine, features, strict=True):
            pixels = np.stack([*cut_boxes(image, box[None], mini)] * 2)
            total = np.asarray(encode(pixels).features)[:2].sum(0)
            assert np.abs(total / np.linalg.norm(total) - feature).max() < 1e-5


def test_a_picture_that_does_not_fit_its_annotations_is_refused(tmp_path, rng):
    picture(rng).save(tmp_path / "a.png")
    assert open_picture(tmp_path, Picture(0, 90, 60, "a.png")).size == (90, 60)
    with pytest.raises(UserError, match="annotations say 60 x 90"):
        open_picture(tmp_path, Picture(0, 60, 90, "a.png"))
    with pytest.raises(UserError, match="cannot be read"):
        open_picture(tmp_path, Picture(0, 60, 90, "b.png"))
    (tmp_path / "c.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="cannot be read"):
        open_picture(tmp_path, Picture(0, 60, 90, "c.png"))
