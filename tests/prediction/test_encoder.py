"""Pictures however people hold them, to the same features, each computed once."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fsclip_jax
from fsclip_jax.errors import UserError
from fsclip_jax.prediction import encoder as encoder_module
from fsclip_jax.prediction.given import as_pictures


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)


class Series:
    """What the package needs of a pandas Series."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.values, dtype)


@pytest.fixture
def forms(pixels, tmp_path):
    """The same three pictures in every form, by name."""
    images = [Image.fromarray(one) for one in pixels]
    files = []
    for place, image in enumerate(images):
        files.append(tmp_path / "pictures" / f"{place}.png")
        files[-1].parent.mkdir(exist_ok=True)
        image.save(files[-1])
    names = [str(file) for file in files]
    objects = np.empty(3, object)
    objects[:] = images
    return {
        "list of names": names,
        "tuple of paths": tuple(files),
        "array of names": np.array(names),
        "array of objects": np.array(names, object),
        "series": Series(np.array(names, object)),
        "images": images,
        "array of images": objects,
        "bytes": [file.read_bytes() for file in files],
        "pixels": pixels,
        "list of pixels": list(pixels),
        "folder": str(files[0].parent),
        "mixed": [names[0], images[1], pixels[2]],
        "generator": (name for name in names),
        "column of names": np.array(names, object)[:, None],
        "list of foreign arrays": [Series(one) for one in pixels],
    }


def test_every_form_of_pictures_has_the_same_features(forms, monkeypatch):
    clip = fsclip_jax.load_clip("mini")
    expected = clip.encode_image(forms["images"])
    np.testing.assert_allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-6)
    assert abs(expected[0] @ expected[1]) < 0.9999
    for name, form in forms.items():
        monkeypatch.setenv("FSCLIP_CACHE", f"{os.environ['FSCLIP_CACHE']}-{name}")
        ours = fsclip_jax.load_clip("mini").encode_image(form)
        np.testing.assert_array_equal(ours, expected, err_msg=name)


@pytest.mark.parametrize("one", ["file", "path", "image", "pixels", "bytes"])
def test_one_picture_is_a_picture_and_not_its_parts(one, forms, pixels):
    single = {
        "file": forms["list of names"][0],
        "path": forms["tuple of paths"][0],
        "image": forms["images"][0],
        "pixels": pixels[0],
        "bytes": forms["bytes"][0],
    }[one]
    clip = fsclip_jax.load_clip()
    np.testing.assert_array_equal(clip.encode_image(single), clip.encode_image([single]))


def test_no_picture_has_no_feature_and_features_are_no_pictures():
    clip = fsclip_jax.load_clip()
    assert clip.encode_image([]).shape == (0, clip.backbone.embed_dim)
    for features in (np.eye(3), np.eye(3).tolist(), np.zeros((2, 2), np.uint8)):
        assert as_pictures(features) is None
    for nothing in (7, None, {}, {"a.png"}):
        with pytest.raises(UserError, match="and holds no pictures; give files"):
            as_pictures(nothing)
    with pytest.raises(UserError, match="list holds no pictures; give files"):
        clip.encode_image([[1.0, 2.0]])


def test_a_picture_is_encoded_once_however_it_comes_again(forms, monkeypatch):
    seen = []
    real = encoder_module.encode_pictures

    def counted(source, backbone):
        seen.append(len(source.keys))
        return real(source, backbone)

    monkeypatch.setattr(encoder_module, "encode_pictures", counted)
    first = fsclip_jax.load_clip().encode_image([*forms["images"], forms["images"][1]])
    again = fsclip_jax.load_clip().encode_image(forms["pixels"])
    assert seen == [3]
    np.testing.assert_array_equal(first[:3], again)
    np.testing.assert_array_equal(first[3], first[1])
    fsclip_jax.load_clip().encode_image(forms["bytes"])  # a file's bytes are told from its pixels
    fsclip_jax.load_clip().encode_image(forms["list of names"])
    assert seen == [3, 3]
    Image.new("RGB", (9, 9)).save(forms["list of names"][0])  # another picture of the same name
    other = fsclip_jax.load_clip().encode_image(forms["list of names"])
    assert seen == [3, 3, 1]
    assert (other[0] != first[0]).any()


def test_pictures_that_cannot_be_read_are_told_by_place(tmp_path, forms):
    clip = fsclip_jax.load_clip()
    os.mkfifo(tmp_path / "pipe.png")
    for bad in (tmp_path / "pipe.png", tmp_path / "none.png", b"text"):
        with pytest.raises(UserError, match="picture 2 cannot be read"):
            clip.encode_image([*forms["images"][:2], bad])


def test_a_clip_is_loaded_once_until_its_files_change(tmp_path, monkeypatch):
    loads = []
    real = encoder_module.load_clip
    monkeypatch.setattr(encoder_module, "load_clip", lambda spec: loads.append(spec) or real(spec))
    mini = Path(fsclip_jax.__file__).parent / "assets" / "mini"
    for file in mini.iterdir():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    spec = str(tmp_path / "model")
    first = fsclip_jax.load_clip(spec)
    assert fsclip_jax.load_clip(spec).backbone is first.backbone
    os.utime(next((tmp_path / "model").iterdir()), (1, 1))
    assert fsclip_jax.load_clip(spec).backbone is not first.backbone
    assert len(loads) == 2


def test_prompts_are_unit_vectors():
    texts = fsclip_jax.load_clip().encode_text("cat")
    assert texts.shape[0] == 1
    np.testing.assert_allclose(np.linalg.norm(texts), 1, atol=1e-6)


def test_a_file_like_object_of_bytes_is_read(forms):
    clip = fsclip_jax.load_clip()
    stream = io.BytesIO(forms["bytes"][0])
    np.testing.assert_array_equal(clip.encode_image(stream), clip.encode_image(forms["bytes"][:1]))
