"""Methods that train the towers see the pictures behind a bank: the same shots and queries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from emoji_folders import write_emoji

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.adapters.clip_lora import ClipLora, encode
from fsclip_jax.data.pictures import FileLoader
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.evaluate import find_inputs
from fsclip_jax.evaluation.label_spaces import label_spaces
from fsclip_jax.evaluation.pictures import pictured, read_pixels
from fsclip_jax.evaluation.prepare import prepare
from fsclip_jax.evaluation.protocols import run_protocol
from fsclip_jax.features.extract import ExtractSettings, bank_for
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.methods import Method, choose_methods

VIEWS = 2


@pytest.fixture(scope="module")
def emoji(tmp_path_factory):
    """Four classes of emoji, their bank, and the configuration of an evaluation."""
    place, banks = (tmp_path_factory.mktemp(name) for name in ("emoji", "banks"))
    config = EvalConfig(
        data=f"folder:{write_emoji(place, 4)}",
        methods=("clip_lora",),
        shots=(1, 3),
        seeds=2,
        select="none",
    )
    stored = bank_for(config.data, "mini", ExtractSettings(views=VIEWS), cache=banks)
    return config, stored, find_inputs(config, stored)


def test_pixels_are_those_that_the_features_are_of(emoji):
    config, stored, inputs = emoji
    (space,) = label_spaces(config, len(stored.class_names))
    plain = prepare(config, stored, space, False)
    seen = pictured(plain, inputs.pictures, VIEWS)
    image = inputs.pictures.towers.image

    @jax.jit
    def features(pixels):
        flat = image.images(pixels.reshape(-1, pixels.shape[-1]))
        found = encode(lambda _: image.build(), flat, jax.random.key(0))
        return found.reshape(*pixels.shape[:-1], -1)

    task = seen.draws.task
    assert task.views.dtype == jnp.uint8
    there = np.asarray(task.support_mask)
    close = {"atol": 2e-3}  # a bank rounds to float16
    for pixels, expected in [
        (task.support, plain.draws.plain),
        (task.views, plain.draws.task.views),
    ]:
        np.testing.assert_allclose(features(pixels)[there], expected[there], **close)
    (query,), (expected,) = seen.queries.values(), plain.queries.values()
    np.testing.assert_allclose(features(query.features), expected.features, **close)
    np.testing.assert_array_equal(query.labels, expected.labels)
    names = inputs.pictures.towers.prompt_ids
    np.testing.assert_array_equal(task.towers.prompt_ids, np.stack([names, names]))


def test_towers_that_learn_nothing_answer_as_zero_shot(emoji):
    config, stored, inputs = emoji
    methods = [
        Method("zero_shot", get_adapter("zero_shot"), {}),
        Method("clip_lora", ClipLora(steps=1), {"lr": jnp.float32(0)}),
    ]
    found = run_protocol(config, stored, methods, inputs=inputs).predictions
    for shots in config.shots:
        still, zero_shot = (found.find(m.name, shots, "test") for m in reversed(methods))
        np.testing.assert_array_equal(still.predicted, zero_shot.predicted)
        np.testing.assert_allclose(still.nll, zero_shot.nll, atol=0.05)


def test_imbalanced_shots_are_trained_on_as_they_are(emoji):
    """Rows that are padded are black, and neither change the towers nor stop the training."""
    config, stored, inputs = emoji
    config = dataclasses.replace(config, shots=("imbalanced:2",))
    methods = [
        Method("zero_shot", get_adapter("zero_shot"), {}),
        Method("still", ClipLora(steps=1), {"lr": jnp.float32(0)}),
        Method("clip_lora", ClipLora(steps=2), {"lr": jnp.float32(1e-3)}),
    ]
    found = run_protocol(config, stored, methods, inputs=inputs).predictions
    zero_shot, still, trained = (found.find(m.name, "imbalanced:2", "test") for m in methods)
    np.testing.assert_array_equal(still.predicted, zero_shot.predicted)
    assert np.isfinite(trained.nll).all()
    assert np.abs(trained.nll - still.nll).max() > 0.01


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "bank:b"}, "give the pictures themselves, such as --data emoji, folder:DIR"),
        ({"protocol": "episodic"}, "episodes differ"),
        ({"protocol": "domain_shift"}, "targets have others"),
    ],
)
def test_where_there_is_nothing_to_train_on_it_is_refused_in_a_line(emoji, changes, said):
    config, stored, _ = emoji
    missing = find_inputs(dataclasses.replace(config, **changes), stored).missing
    with pytest.raises(UserError, match=said) as caught:
        choose_methods(["clip_lora"], FeatureSpec(stored.dim), missing=missing)
    assert "\n" not in str(caught.value)
    assert "leave clip_lora out" in str(caught.value)


def test_all_leaves_it_out_and_says_so(emoji):
    _, stored, inputs = emoji
    chosen = choose_methods(["all"], FeatureSpec(stored.dim), missing=inputs.missing)
    assert chosen.left_out["clip_lora"] == "clip_lora: trains both towers; ask for it by name"


def test_a_picture_that_is_gone_is_named(emoji, tmp_path):
    _, _, inputs = emoji
    gone = FileLoader(tmp_path, inputs.pictures.source.keys, "upright")
    lost = dataclasses.replace(inputs.pictures.source, load=gone)
    pictures = dataclasses.replace(inputs.pictures, source=lost)
    with pytest.raises(UserError, match=r"\.png: .*restore it, or take it away"):
        read_pixels(pictures, np.array([0]), 1)
