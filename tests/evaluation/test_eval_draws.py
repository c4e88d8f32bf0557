"""What a draw carries beside the support: views, prompts and patches, cut together with it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_bank import CLASSES

from fsclip_jax.cli.eval import run
from fsclip_jax.episodes.sampler import EpisodeSpec
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.draws import draw_episodes, draw_supports, queries_of
from fsclip_jax.evaluation.label_spaces import Group, LabelSpace
from fsclip_jax.features import extract
from fsclip_jax.fitting.draws import truncate

WHOLE = LabelSpace(np.arange(CLASSES), (Group("test", np.arange(CLASSES)),))
PATCHES = 3


@pytest.fixture(scope="module")
def train(bank):
    """The train images, with a patch vector that tells which image it belongs to."""
    bank = bank.select(["train"])
    numbers = jnp.arange(1, len(bank.labels) + 1, dtype=jnp.float16)
    shape = (len(bank.labels), PATCHES, bank.features.shape[-1])
    return bank._replace(
        patches=jnp.broadcast_to(numbers[:, None, None], shape),
        prompts=jnp.stack([bank.text, jnp.zeros_like(bank.text)], axis=1),
    )


def test_views_are_those_of_the_support_and_cut_with_it(bank, train):
    draws = draw_supports(jax.random.key(0), train, WHOLE, 4, 2)
    views, mask = np.asarray(draws.task.views), np.asarray(draws.task.support_mask)
    assert views.shape[3] == bank.views > 1
    np.testing.assert_allclose(
        np.linalg.norm(views, axis=-1), np.broadcast_to(mask[..., None], views.shape[:4]), atol=1e-5
    )
    mean = views.mean(3)
    mean /= np.maximum(np.linalg.norm(mean, axis=-1, keepdims=True), 1e-9)
    np.testing.assert_allclose(mean, draws.task.support, atol=1e-5)
    np.testing.assert_array_equal(views[..., 0, :], draws.plain)

    fewer = truncate(draws, 2)
    again = draw_supports(jax.random.key(0), train, WHOLE, 2, 2)
    jax.tree.map(np.testing.assert_array_equal, fewer, again)


def test_a_bank_of_one_view_gives_none(train):
    single = train._replace(features=train.features[:1], prompts=None, patches=None)
    draws = draw_supports(jax.random.key(0), single, WHOLE, 2, 2)
    assert draws.task.views is None
    assert draws.task.prompts is None
    assert draws.patches is None
    assert truncate(draws, 1).task.views is None


def test_prompts_and_patches_follow_their_class_and_image(train):
    novel = np.arange(2, CLASSES)
    draws = draw_supports(jax.random.key(0), train, LabelSpace(novel, ()), 3, 2)
    np.testing.assert_array_equal(draws.task.prompts.vectors[1, :, 0], train.text[novel])
    assert draws.task.prompts.mask[0, 0].tolist() == [True, False]
    found = np.asarray(draws.patches[..., 0, 0]).astype(int) - 1
    np.testing.assert_array_equal(np.asarray(train.features)[0][found], draws.plain)


def test_episodes_carry_the_same(bank, train):
    spec = EpisodeSpec(3, 2, 2)
    asked = bank.select(["test"])
    draws, query = draw_episodes(jax.random.key(0), train, asked, spec, 4)
    assert draws.task.views.shape[:4] == (4, 3, 2, bank.views)
    assert draws.task.prompts.mask.shape == (4, 3, 2)
    assert draws.patches.shape[:4] == (4, 3, 2, PATCHES)
    assert query.patches is None


def test_queries_have_patches_only_if_asked_for(bank):
    assert queries_of(bank, "test", WHOLE, WHOLE.groups[0]).patches is None


@pytest.mark.parametrize("prompts", [False, True])
def test_the_command_asks_for_the_bank_that_the_flags_name(monkeypatch, tmp_path, prompts):
    asked = []

    def bank_for(data, backbone, settings):
        asked.append((data, backbone, settings))
        raise UserError("enough")

    monkeypatch.setattr(extract, "bank_for", bank_for)
    with pytest.raises(UserError, match="enough"):
        run(EvalConfig(views=2, prompts=prompts, workdir=tmp_path), "x")
    assert asked == [("emoji", "mini", extract.ExtractSettings(views=2, prompts=prompts))]
