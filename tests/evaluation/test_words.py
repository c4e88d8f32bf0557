"""The words of a bank: tokens of its class names, and when its text tower is at hand."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters.prompt_text import encode_classes, first_context, lay_out
from fsclip_jax.clip.config import ClipConfig, SiglipTextConfig, SiglipVisionConfig
from fsclip_jax.clip.load import load_clip
from fsclip_jax.evaluation import words as words_module
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.words import find_words, make_words, tokenize_names, words_of
from fsclip_jax.features.bank import StoredBank

NAMES = ("hot_dog", "red car", "x", "woman with red hair", "dog")


def bank(templates=("a photo of a {}.",), **backbone):
    """As much of a bank as the words of it need."""
    nothing = np.zeros(0, np.int32)
    return StoredBank(
        path=Path("a.bank"),
        manifest={"templates": list(templates), "backbone": {"id": "mini", **backbone}},
        shards=(),
        labels=nothing,
        splits=nothing,
        domains=None,
        keys=(),
        class_names=NAMES,
        domain_names=(),
        text_features=np.zeros((5, 192), np.float32),
        logit_scale=30.0,
    )


@pytest.fixture(scope="module")
def mini():
    return load_clip("mini")


def test_a_context_of_words_is_the_template(mini):
    words = make_words(mini, bank())
    assert words.context_ids.shape == (4,)
    prompts = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
    graph = mini.tokenizer(prompts)

    @jax.jit
    def features(words, ids):
        tower = words.tower.build()
        context = first_context(words, 4, "words", jax.random.key(0))
        endings = lay_out(words, 4, "end")
        ours = encode_classes(words.tower, tower.embed(words.start_id), context, endings, 4)
        theirs = tower(ids)
        return ours, theirs / jnp.linalg.norm(theirs, axis=-1, keepdims=True)

    ours, theirs = features(words, jnp.asarray(graph))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_bare_names_have_no_full_stop_and_a_neutral_context(mini):
    words = make_words(mini, bank(templates=("{}",)))
    assert words.tail_ids.shape == (0,)
    assert words.context_ids.tolist() == [int(words.start_id)] * 4


def test_names_are_tokens_without_start_and_end(mini):
    ids, lengths = tokenize_names(mini.tokenizer, NAMES)
    for name, row, length in zip(NAMES, ids, lengths, strict=True):
        whole = mini.tokenizer([name])[0]
        assert whole[1 : 1 + length].tolist() == row[:length].tolist()
        assert whole[1 + length] == mini.tokenizer.eos_id
        assert not row[length:].any()
    assert ids.shape[1] == lengths.max()


def test_words_of_some_classes_are_cut_and_repeated(mini):
    words = make_words(mini, bank())
    few = words_of(words, np.array([4, 2]), draws=3)
    assert few.ids.shape == (3, 2, int(words.lengths[jnp.array([4, 2])].max()))
    np.testing.assert_array_equal(few.ids[1, 0], words.ids[4, : few.ids.shape[-1]])
    assert few.start_id.shape == (3,)
    assert few.tower is words.tower


def test_images_use_the_backbone_that_encodes_them(mini, monkeypatch):
    monkeypatch.setattr(words_module, "load_clip", lambda spec: {"mini": mini}[spec])
    words, why = find_words(EvalConfig(data="emoji"), bank())
    assert words is not None
    assert why == ""


def test_siglip_learns_no_prompts(mini, monkeypatch):
    config = ClipConfig(SiglipVisionConfig(8, 4, 4, 1, 1, 4), SiglipTextConfig(8, 4, 4, 1, 1, 4, 4))
    siglip = replace(mini, id="google/siglip", config=config)
    monkeypatch.setattr(words_module, "load_clip", lambda _: siglip)
    words, why = find_words(EvalConfig(data="emoji", backbone="google/siglip"), bank())
    assert words is None
    assert "google/siglip is a SigLIP" in why


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        ({}, "does not say which weights of mini"),
        ({"sha256": "0" * 64}, "are not those that made the bank"),
        ({"id": "nobody/nothing", "sha256": "0" * 64}, "hf download nobody/nothing"),
        ({"id": "ViT-B/32 ", "sha256": "0" * 64}, "not at hand"),
    ],
)
def test_says_why_a_bank_has_no_words(mini, monkeypatch, backbone, reason):
    real = words_module.load_clip
    monkeypatch.setattr(words_module, "load_clip", lambda s: mini if s == "mini" else real(s))
    words, why = find_words(EvalConfig(data="bank:a.bank"), bank(**backbone))
    assert words is None
    assert reason in why
    assert "\n" not in why


def test_a_bank_of_the_bundled_clip_has_words(mini, monkeypatch):
    monkeypatch.setattr(words_module, "load_clip", {"mini": mini}.get)
    words, why = find_words(EvalConfig(data="bank:a.bank"), bank(sha256=mini.sha256))
    assert words is not None
    assert why == ""


def test_without_a_start_token_no_prompts_are_learned(mini, monkeypatch):
    def without_start(texts, **_):
        ids = mini.tokenizer.backend(texts, padding="max_length", max_length=16, truncation=True)
        return {"input_ids": [[*row[1:], row[-1]] for row in ids["input_ids"]]}

    other = replace(mini, tokenizer=replace(mini.tokenizer, backend=without_start))
    monkeypatch.setattr(words_module, "load_clip", lambda _: other)
    words, why = find_words(EvalConfig(data="emoji", backbone="mini"), bank())
    assert words is None
    assert "no start token" in why
