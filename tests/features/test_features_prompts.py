"""Prompt vectors one by one: from sentences to the bank, and from the bank to a task."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from sample_banks import description, random_rows
from tiny_clip import linear_towers, noise_source, tiny_backbone

from fsclip_jax.clip.bpe import bundled_tokenizer
from fsclip_jax.episodes.gather import gather_support
from fsclip_jax.errors import UserError
from fsclip_jax.features.extract import bank_for, extract, identity, prompts_of
from fsclip_jax.features.shards import ExtractSettings
from fsclip_jax.features.show import bank_facts
from fsclip_jax.features.store import open_bank
from fsclip_jax.features.text import tokenize
from fsclip_jax.features.writing import write_bank

SENTENCES = {"thing 0": ["a", "b", "c"], "thing 1": ["d"], "Thing_2": ["e", "f"]}


@pytest.fixture
def sentences(tmp_path):
    path = tmp_path / "cupl.json"
    path.write_text(json.dumps(SENTENCES))
    return path


@pytest.fixture
def bank(tmp_path, sentences, monkeypatch):
    linear_towers(monkeypatch.setattr)
    source, backbone = noise_source(9), tiny_backbone()
    prompts = prompts_of(source, backbone, ExtractSettings(prompt_file=sentences))
    settings = ExtractSettings(prompts=True, batch=8)
    return extract(source, backbone, tmp_path / "bank", settings, None, prompts)


def test_sentences_are_stored_one_by_one(bank):
    again = open_bank(bank.path, verify=True)
    assert again.prompt_features.shape == (3, 3, 8)
    assert again.prompt_mask.sum(0).tolist() == [3, 1, 2]
    for label in range(3):
        own = again.prompt_features[again.prompt_mask[:, label], label]
        np.testing.assert_allclose(np.linalg.norm(own, axis=-1), 1, atol=1e-6)
        mean = own.mean(0)
        np.testing.assert_allclose(
            again.text_features[label], mean / np.linalg.norm(mean), atol=1e-6
        )
    assert again.manifest["prompt_file"]["name"] == "cupl.json"


def test_tasks_have_the_mask_of_the_bank(bank):
    device = bank.select(["train", "val", "test"], np.array([2, 0]))
    assert device.prompt_mask.tolist() == [[True, True, False], [True, True, True]]
    index, mask = jnp.zeros((2, 1), int), jnp.ones((2, 1), bool)
    task = gather_support(device, jnp.array([1, 0]), index, mask)
    assert task.prompts.mask.tolist() == [[True, True, True], [True, True, False]]
    np.testing.assert_array_equal(task.prompts.vectors[1, 2], 0)


def test_the_mask_counts_and_not_what_lies_below_it(tmp_path):
    vectors = np.ones((2, 4, 6), np.float32)
    mask = np.array([[True] * 4, [True, False, True, False]])
    about = description(prompt_features=vectors, prompt_mask=mask)
    stored = write_bank(tmp_path / "bank", random_rows(), about)
    np.testing.assert_array_equal(stored.prompt_mask, mask)
    device = stored.select(["train", "val", "test"])
    index, present = jnp.zeros((4, 1), int), jnp.ones((4, 1), bool)
    prompts = gather_support(device, jnp.arange(4), index, present).prompts
    np.testing.assert_array_equal(prompts.mask, mask.T)
    assert not np.asarray(prompts.vectors)[1, 1].any()


def test_without_a_mask_rows_of_zeros_are_no_prompts(tmp_path):
    vectors = np.ones((2, 4, 6), np.float32)
    vectors[1, 3] = 0
    stored = write_bank(tmp_path / "bank", random_rows(), description(prompt_features=vectors))
    assert stored.prompt_mask.sum(0).tolist() == [2, 2, 2, 1]


@pytest.mark.parametrize("mask", [np.ones((2, 3), bool), np.zeros((2, 4), bool)])
def test_a_mask_that_does_not_fit_is_refused(tmp_path, mask):
    about = description(prompt_features=np.ones((2, 4, 6), np.float32), prompt_mask=mask)
    with pytest.raises(UserError, match="prompt_mask is bool"):
        write_bank(tmp_path / "bank", random_rows(), about)


def test_other_sentences_make_another_bank(sentences):
    source, backbone, settings = noise_source(9), tiny_backbone(), ExtractSettings()
    plain = identity(source, backbone, settings)
    ensemble = identity(source, backbone, ExtractSettings(templates="ensemble"))
    one = identity(source, backbone, ExtractSettings(prompt_file=sentences))
    sentences.write_text(json.dumps(SENTENCES | {"thing 1": ["z"]}))
    two = identity(source, backbone, ExtractSettings(prompt_file=sentences))
    found = [json.dumps(each) for each in (plain, ensemble, one, two)]
    assert len(set(found)) == 4
    assert "prompt_file" not in plain  # banks made before there were files stay the same


def test_a_bank_has_its_prompts_already(bank, sentences):
    with pytest.raises(UserError, match="--prompt-file does not go with bank:"):
        bank_for(f"bank:{bank.path}", settings=ExtractSettings(prompt_file=sentences))
    with pytest.raises(UserError, match="--templates does not go with bank:"):
        bank_for(f"bank:{bank.path}", settings=ExtractSettings(templates="ensemble"))


def test_show_names_the_file(bank):
    facts = bank_facts(bank)
    assert facts["prompt file"].startswith("cupl.json (sha256 ")
    assert facts["prompt vectors"] == "1 to 3 a class"


def test_prompts_that_are_cut_are_counted(capsys):
    tokenizer = bundled_tokenizer(77)
    words = ("a cat", "cat " * 75, "cat " * 76, "cat " * 500)  # 75 words and two marks just fit
    ids = tokenize(tokenizer, words)
    np.testing.assert_array_equal(ids, tokenizer(list(words)))
    said = capsys.readouterr().err
    assert said == "note: 2 of 4 prompts are longer than 77 tokens and were cut\n"
    tokenize(tokenizer, words[:2])
    assert capsys.readouterr().err == ""
