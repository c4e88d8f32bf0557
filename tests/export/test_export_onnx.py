"""A fitted classifier as one ONNX file: onnxruntime answers as the package does."""

import dataclasses
import json
import sys

import jax
import numpy as np
import pytest
from emoji_folders import write_emoji
from tiny_clip import random_clip

from fsclip_jax.adapters import cache
from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.cli.main import main
from fsclip_jax.clip.config import (
    ClipConfig,
    ResNetConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
    TextConfig,
    VitConfig,
)
from fsclip_jax.clip.load import load_clip
from fsclip_jax.export.onnx import export_onnx
from fsclip_jax.features.images import image_encoder
from fsclip_jax.fitting.draws import draws_of
from fsclip_jax.fitting.methods import Method
from fsclip_jax.prediction.calibrate import Temperature
from fsclip_jax.prediction.classifier import fit_support, probabilities
from fsclip_jax.prediction.images import encode_pixels

TEXT = TextConfig(64, 8, 24, 1, 3, 48, embed_dim=8)
TOWERS = {
    "vit": ClipConfig(VitConfig(32, 16, 24, 2, 3, 48, embed_dim=8), TEXT),
    "resnet": ClipConfig(ResNetConfig((1, 1, 1, 1), 8, 64, 8, heads=2), TEXT),
    "siglip": ClipConfig(
        SiglipVisionConfig(32, 16, 24, 2, 3, 48), SiglipTextConfig(64, 8, 24, 1, 3, 48, 24)
    ),
}
METHODS = (
    "zero_shot", "prototype", "text_prototype", "tip_adapter", "meta_adapter", "meta_prior",
    "ridge", "gda", "proker", "linear_probe", "ape", "ss_text_plus",
)  # fmt: skip


@pytest.fixture(scope="module")
def runtime():
    pytest.importorskip("jax2onnx", reason="the extra onnx is not installed")
    return pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


def fitted_on(config, method):
    """A tower of random weights, and a method fitted to a task of its width."""
    clip = random_clip(config)
    task, _ = example_task(way=4, shot=3, dim=config.embed_dim)
    task = task._replace(logit_scale=np.float32(20))
    draws = draws_of(jax.tree.map(lambda leaf: leaf[None], task))
    adapter = get_adapter(method)
    params = adapter.init(jax.random.key(1), config.embed_dim)
    fitted = fit_support(draws, "abcd", (Method(method, adapter, params),))
    return clip, dataclasses.replace(fitted, temperature=Temperature(2.0, 0, even=0.1))


@pytest.mark.parametrize(
    ("tower", "method"),
    [*((tower, "zero_shot") for tower in TOWERS), *(("vit", method) for method in METHODS[1:])],
)
def test_onnxruntime_answers_as_the_package_does(runtime, tower, method):
    clip, fitted = fitted_on(TOWERS[tower], method)
    session = runtime.InferenceSession(export_onnx(clip, fitted))
    rng = np.random.default_rng(0)
    for count in (1, 5):  # any batch
        pixels = rng.integers(0, 256, (count, clip.image_size, clip.image_size, 3), np.uint8)
        shares, labels, evidence = session.run(None, {"pixels": pixels})
        expected = probabilities(
            fitted, encode_pixels(image_encoder(clip), pixels, count, clip.embed_dim)
        )
        np.testing.assert_allclose(shares, expected, atol=1e-4)
        np.testing.assert_array_equal(labels, shares.argmax(-1))
        assert evidence.shape == (count, 3)
    assert expected.std() > 1e-3


@pytest.mark.parametrize("method", ["tip_adapter", "proker"])
def test_many_keys_are_a_loop_in_the_graph(runtime, monkeypatch, method):
    clip, fitted = fitted_on(TOWERS["vit"], method)
    pixels = np.random.default_rng(0).integers(
        0, 256, (5, clip.image_size, clip.image_size, 3), np.uint8
    )
    expected = probabilities(fitted, encode_pixels(image_encoder(clip), pixels, 5, clip.embed_dim))
    monkeypatch.setattr(cache, "MANY_KEYS", 8)
    session = runtime.InferenceSession(export_onnx(clip, fitted))
    np.testing.assert_allclose(session.run(None, {"pixels": pixels})[0], expected, atol=1e-4)


def test_the_command_writes_a_file_that_describes_itself(runtime, tmp_path):
    pictures, out = write_emoji(tmp_path / "emoji", 3), tmp_path / "out"
    words = f"--method prototype --format onnx --out {out} --support".split()
    assert main(["export", *words, str(pictures / "train")]) == 0
    assert sorted(file.name for file in out.iterdir()) == ["README.md", "classifier.onnx"]
    about = runtime.InferenceSession(out / "classifier.onnx").get_modelmeta().custom_metadata_map
    assert json.loads(about["class_names"]) == sorted(
        p.name for p in (pictures / "train").iterdir()
    )
    assert json.loads(about["preprocess"])["size"] == load_clip("mini").image_size
    assert (about["method"], about["backbone"]) == ("prototype", "mini")


@pytest.mark.parametrize(
    ("words", "hidden", "said"),
    [
        ("--method prototype", (), "--format onnx is of a fitted classifier: give --support DIR"),
        ("--support .", ("jax2onnx",), "pip install 'fsclip-jax[onnx]'"),
        ("--support .", ("onnx",), "pip install 'fsclip-jax[onnx]'"),
    ],
)
def test_what_cannot_be_a_graph_is_one_line(tmp_path, monkeypatch, capsys, words, hidden, said):
    for name in hidden:
        monkeypatch.setitem(sys.modules, name, None)
    words = ["export", "--format", "onnx", "--out", str(tmp_path / "out"), *words.split()]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()
