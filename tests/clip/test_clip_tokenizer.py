import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import transformers

import fsclip_jax
from fsclip_jax.clip.plain_tokenizer import read_plain
from fsclip_jax.clip.tokenizer import load_tokenizer, wrap_tokenizer
from fsclip_jax.errors import UserError


def test_prompts_start_end_and_are_padded(tokenizer):
    ids = tokenizer(["a ! ab", ""])
    assert ids.dtype == np.int32
    assert ids.shape == (2, 10)
    # "a" and "!" as whole words, then "ab": pieces "a" and "b</w>", as no merge joins them.
    assert ids[0].tolist() == [62, 12, 11, 1, 13, 63, 63, 63, 63, 63]
    assert ids[1].tolist() == [62] + [63] * 9


def test_a_long_prompt_keeps_its_end_token(tokenizer):
    row = tokenizer(["abc" * 20])[0]
    assert row[0] == 62
    assert row[-1] == tokenizer.eos_id == 63
    assert (row[:-1] != 63).all()


def test_equals_the_tokenizer_of_transformers(tokenizer, backend):
    texts = ["a photo of a cab!", "  Bad  CAFE ", "j!j", "a" * 30]
    theirs = backend(texts, padding="max_length", truncation=True, max_length=10)["input_ids"]
    np.testing.assert_array_equal(tokenizer(texts), theirs)


def test_no_prompt_gives_no_row(tokenizer):
    assert tokenizer([]).shape == (0, 10)


def test_files_give_the_tokenizer_back(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = load_tokenizer(tmp_path, 10)
    texts = ["a cab", "bad ! j"]
    np.testing.assert_array_equal(again(texts), tokenizer(texts))
    # tokenizer.json alone, as in a folder of open_clip, is read as CLIP's.
    (tmp_path / "tokenizer_config.json").unlink()
    np.testing.assert_array_equal(load_tokenizer(tmp_path, 10)(texts), tokenizer(texts))


def test_a_tokenizer_of_another_model_is_refused(backend):
    assert wrap_tokenizer(backend, 10, eos_id=63).eos_id == 63
    with pytest.raises(
        UserError, match="ends a prompt with id 63 and the config reads it at id 61"
    ):
        wrap_tokenizer(backend, 10, eos_id=61)


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no tokenizer; wanted is tokenizer.json"):
        load_tokenizer(tmp_path, 10)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_tokenizer(tmp_path, 10)


def test_a_plain_class_is_read_without_transformers_and_equals_its_tokenizer(monkeypatch, tmp_path):
    mini = Path(fsclip_jax.__file__).parent / "assets" / "mini"
    other = transformers.AutoTokenizer.from_pretrained(mini)
    texts = [
        "a Cat's photo",
        "x" * 80,
        "naïve &amp; 日本",
        "",
        "<|endoftext|> b <|startoftext|>",
        "a-_ b ",
    ]
    theirs = other(texts)["input_ids"]
    cut = other(texts, padding="max_length", truncation=True, max_length=16)["input_ids"]
    other.save_pretrained(tmp_path / "theirs")
    ours = load_tokenizer(mini, 16)
    ours.save(tmp_path / "ours")
    for theirs_saved in (tmp_path / "theirs").iterdir():
        saved = tmp_path / "ours" / theirs_saved.name
        assert json.loads(saved.read_text()) == json.loads(theirs_saved.read_text())

    def refuse(*_, **__):
        raise AssertionError("it takes a second to be imported")

    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", refuse)
    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "from_pretrained", refuse)
    ours = load_tokenizer(mini, 16)
    assert ours(texts).tolist() == cut
    assert ours.backend(texts)["input_ids"] == theirs  # the cut of the call before is forgotten
    assert ours.too_long(texts) == sum(len(row) > 16 for row in theirs)


@pytest.mark.parametrize(
    "said",
    [{"padding_side": "left"}, {"pad_token": None}, {"eos_token": {"content": "<|endoftext|>"}},
     {"unk_token": "[UNK]"}, {"added_tokens_decoder": {}}],
)  # fmt: skip
def test_a_tokenizer_whose_config_says_more_is_left_to_transformers(said, tmp_path):
    mini = Path(fsclip_jax.__file__).parent / "assets" / "mini"
    assert read_plain(mini) is not None
    shutil.copy(mini / "tokenizer.json", tmp_path)
    config = json.loads((mini / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | said))
    assert read_plain(tmp_path) is None
