"""Banks of features before the last projection: both sides of it, and the projection itself."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_clip import VISION, noise, noise_source, tiny_backbone

from fsclip_jax.clip.config import ResNetConfig
from fsclip_jax.clip.model import encode_before, encode_image
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig, check_eval_config
from fsclip_jax.evaluation.evaluate import evaluate_bank
from fsclip_jax.evaluation.label_spaces import label_spaces
from fsclip_jax.evaluation.prepare import prepare
from fsclip_jax.features.extract import bank_for, extract
from fsclip_jax.features.layout import MANIFEST
from fsclip_jax.features.shards import ExtractSettings
from fsclip_jax.features.show import bank_facts
from fsclip_jax.features.store import open_bank

TOWERS = {"vit": VISION, "resnet": ResNetConfig((1, 1, 1, 1), 4, 32, embed_dim=8, heads=2)}
PRE = ExtractSettings(views=2, shard=4, batch=8, features="pre")


def bank_of(folder, tower="vit", settings=PRE, **source):
    return extract(noise_source(**source), tiny_backbone(vision=TOWERS[tower]), folder, settings)


@pytest.mark.parametrize("tower", TOWERS)
def test_what_is_read_is_what_the_tower_gives_on_either_side(tower, tmp_path):
    backbone = tiny_backbone(vision=TOWERS[tower])
    bank = bank_of(tmp_path / "pre", tower, n=7)
    crops = np.stack([backbone.preprocess.crop(noise(index)) for index in range(7)])
    pixels = jnp.asarray(backbone.preprocess.normalize(crops))
    before = np.asarray(encode_before(backbone.graphdef, backbone.state, pixels))
    after = np.asarray(encode_image(backbone.graphdef, backbone.state, pixels))
    np.testing.assert_allclose(bank.on("raw").features[0], before, rtol=2e-3, atol=2e-3)
    unit = before / np.linalg.norm(before, axis=-1, keepdims=True)
    np.testing.assert_allclose(bank.on("before").features[0], unit, atol=2e-3)
    unit = after / np.linalg.norm(after, axis=-1, keepdims=True)
    np.testing.assert_allclose(bank.features[0], unit, atol=2e-3)
    assert (bank.dim, bank.on("raw").dim, bank.pre) == (8, before.shape[1], before.shape[1])
    assert bank_facts(bank)["features"] == f"before the projection, {bank.pre} wide"
    open_bank(bank.path, verify=True)


def test_methods_see_what_they_see_of_an_ordinary_bank(tmp_path):
    pre = bank_of(tmp_path / "pre", n=12)
    post = bank_of(tmp_path / "post", settings=ExtractSettings(views=2, shard=4, batch=8), n=12)
    np.testing.assert_allclose(pre.features, post.features, atol=2e-3)
    np.testing.assert_array_equal(pre.text_features, post.text_features)
    np.testing.assert_allclose(pre.select(["train"]).features, post.select(["train"]).features,
                               atol=2e-3)  # fmt: skip


def test_an_ordinary_bank_has_one_side(tmp_path):
    post = bank_of(tmp_path / "post", settings=ExtractSettings(), n=4)
    assert (post.pre, post.projection, post.on("after").dim) == (0, None, 8)
    assert "features" not in post.manifest["settings"]
    for side in ("before", "raw"):
        with pytest.raises(UserError, match=r"no features before.*extract --features pre"):
            post.on(side)


def test_towers_without_a_projection_or_text_are_refused_before_any_work(tmp_path):
    backbone = dataclasses.replace(tiny_backbone(), tokenizer=None)
    with pytest.raises(UserError, match="tiny has no text: leave --features pre out"):
        extract(noise_source(3), backbone, tmp_path / "bank", PRE)
    assert not any(tmp_path.iterdir())
    with pytest.raises(UserError, match="--features pre and --patches do not go together"):
        ExtractSettings(features="pre", patches=True)


def test_a_damaged_projection_is_told(tmp_path):
    bank = bank_of(tmp_path / "pre", n=4)
    manifest = json.loads((bank.path / MANIFEST).read_text())
    (bank.path / MANIFEST).write_text(json.dumps(manifest | {"pre": 7}))
    with pytest.raises(UserError, match="is damaged"):
        open_bank(bank.path)
    del manifest["pre"]
    (bank.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(UserError, match="format version 3 goes with the width pre"):
        open_bank(bank.path)


@pytest.fixture(scope="module")
def emoji_before(tmp_path_factory):
    """The bundled emoji, on the bundled CLIP's side before its projection."""
    cache = tmp_path_factory.mktemp("cache")
    return bank_for("emoji:food", "mini", ExtractSettings(features="pre"), cache)


CONFIG = {"data": "emoji:food", "shots": (2,), "seeds": 2, "select": "none", "views": 1}


def test_prolip_takes_part_where_the_bank_has_what_it_trains(emoji_before, tmp_path):
    """Held by the published strength, on features this long, it keeps near zero-shot."""
    config = EvalConfig(**CONFIG, methods=("zero_shot", "prolip"))
    report = evaluate_bank(config, emoji_before, tmp_path).report
    accuracy = {row.method: row.metrics["accuracy"].mean for row in report.rows}
    assert abs(accuracy["prolip"] - accuracy["zero_shot"]) < 5


def test_the_draws_are_the_same_on_either_side(emoji_before):
    config = EvalConfig(**CONFIG, methods=("prolip",))
    (space,) = label_spaces(config, len(emoji_before.class_names))
    after, raw = (prepare(config, emoji_before.on(side), space, False) for side in ("after", "raw"))
    np.testing.assert_array_equal(after.draws.rows, raw.draws.rows)
    projection = raw.draws.task.projection
    support = np.asarray(raw.draws.task.support)
    projected = support @ np.asarray(projection.kernel) + np.asarray(projection.bias)
    held = np.asarray(after.draws.task.support_mask)
    unit = np.asarray(projected / np.linalg.norm(projected, axis=-1, keepdims=True))
    np.testing.assert_allclose(unit[held], np.asarray(after.draws.task.support)[held], atol=1e-4)
    (query,) = raw.queries.values()
    np.testing.assert_array_equal(query.labels, next(iter(after.queries.values())).labels)


def test_probes_see_the_side_before_it(emoji_before, tmp_path):
    config = EvalConfig(**CONFIG, methods=("all",), probe="before", features="pre")
    report = evaluate_bank(config, emoji_before, tmp_path).report
    assert {row.method for row in report.rows} == {"prototype", "ridge", "gda"}
    assert "what is before the projection has no text" in report.settings["left_out"][0]


def test_the_side_before_it_is_extracted_or_told(emoji_before):
    with pytest.raises(UserError, match=r"--probe before wants .* give --features pre"):
        check_eval_config(EvalConfig(data="emoji:food", probe="before"))
    check_eval_config(EvalConfig(data="emoji:food", probe="before", features="pre"))
    check_eval_config(EvalConfig(data=f"bank:{emoji_before.path}", probe="before"))


def test_prolip_is_left_out_in_one_line_of_what_cannot_serve_it(tmp_path):
    bank = bank_of(tmp_path / "post", settings=ExtractSettings(), n=12)
    config = EvalConfig(data="noise", methods=("prolip",), shots=(1,), seeds=1)
    said = r"prolip: the bank does not hold features before .*--features pre\); leave prolip out"
    with pytest.raises(UserError, match=said):
        evaluate_bank(config, bank, tmp_path)
