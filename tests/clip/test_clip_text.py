import clip_cases as cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fsclip_jax.clip.config import TextConfig
from fsclip_jax.clip.model import embed_tokens
from fsclip_jax.clip.text import cut_to_longest, end_positions

NAME = "patch14_gelu_own_eos"


@pytest.fixture(scope="module")
def model():
    return cases.model_of(NAME)


def test_what_comes_after_the_end_has_no_gradient(model):
    graphdef, state = model
    ends = np.array([0, 3, 9], np.int32)
    embeds = np.random.RandomState(1).standard_normal((3, 10, 40)).astype(np.float32)

    def total(embeds):
        return cases.encode_text(graphdef, state, embeds=embeds, ends=jnp.asarray(ends)).sum()

    size = np.abs(jax.jit(jax.grad(total))(embeds)).sum(-1)
    seen = np.arange(10) <= ends[:, None]
    assert (size[seen] > 0).all()
    assert (size[~seen] == 0).all()


def test_embeddings_equal_ids(model):
    graphdef, state = model
    ids = jnp.asarray(cases.ids_of(NAME))
    embeds = embed_tokens(graphdef, state, ids)
    ends = end_positions(ids, 62)
    by_embeds = cases.encode_text(graphdef, state, embeds=embeds, ends=ends)
    np.testing.assert_array_equal(by_embeds, cases.encode_text(graphdef, state, ids))


def test_a_batch_cut_to_its_longest_prompt_keeps_its_features(model):
    graphdef, state = model
    ids = jnp.asarray(cases.ids_of(NAME))[1:2]
    whole, cut = (
        cases.encode_text(graphdef, state, ids),
        cases.encode_text(graphdef, state, ids[:, :3]),
    )
    assert cases.relative_error(cut, whole) < 1e-6


@pytest.mark.parametrize("eos_id", [62, None])
def test_only_positions_behind_every_end_are_cut(eos_id):
    config = TextConfig(64, 77, 16, 1, 2, 32, embed_dim=8, eos_id=eos_id)
    ids = np.full((3, 77), 63)
    ids[:, 0], ids[0, 15], ids[1, 4], ids[2, 9] = 61, 62, 62, 62
    rows = ids if eos_id else np.where(ids == 63, 0, ids)
    assert cut_to_longest(rows, config).shape == (3, 16)
    assert cut_to_longest(rows[1:], config).shape == (2, 16)
    assert cut_to_longest(rows[1:2], config).shape == (1, 8)
    rows[1, 4], rows[1, 76] = 5, 62
    assert cut_to_longest(rows, config).shape == (3, 77)


def test_token_zero_is_a_word_and_not_padding(model):
    graphdef, state = model
    ids = jnp.asarray(cases.ids_of(NAME))[:1]
    other = ids.at[0, 2].set(11)
    assert (
        cases.relative_error(
            cases.encode_text(graphdef, state, ids), cases.encode_text(graphdef, state, other)
        )
        > 0.01
    )


def test_end_positions_of_both_conventions():
    ids = jnp.array([[61, 62, 5, 63, 63], [61, 4, 62, 62, 5], [1, 2, 3, 4, 5]])
    assert end_positions(ids, 62).tolist() == [1, 2, 0]
    assert end_positions(ids, None).tolist() == [3, 2, 4]


def test_an_id_out_of_the_vocabulary_shows_as_nan(model):
    graphdef, state = model
    assert jnp.isnan(cases.encode_text(graphdef, state, jnp.array([[61, 64, 62]]))).all()


def test_prompts_too_long_and_calls_without_ends_are_refused(model):
    graphdef, state = model
    with pytest.raises(ValueError, match="11 tokens, the context length is 10"):
        cases.encode_text(graphdef, state, jnp.zeros((1, 11), jnp.int32))
    with pytest.raises(ValueError, match="end positions"):
        cases.encode_text(graphdef, state, embeds=jnp.zeros((1, 4, 40)))


def test_the_last_block_at_one_position_equals_the_whole_block(model):
    block = nnx.merge(*model).text.blocks[0]
    x = np.random.RandomState(2).standard_normal((3, 10, 40)).astype(np.float32)
    at = np.array([0, 4, 9])
    whole, one = jax.jit(lambda x, at: (block(x), block(x, at)))(x, at)
    np.testing.assert_allclose(one[:, 0], whole[np.arange(3), at], rtol=1e-5, atol=1e-5)
