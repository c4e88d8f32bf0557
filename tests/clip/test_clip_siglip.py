"""SigLIP as a user loads it: folder, tokenizer, logits. Its towers are in the parity tests."""

import io
import json
import sys

import clip_cases as cases
import numpy as np
import pytest
import torch_clips

from fsclip_jax.clip.families import read_config
from fsclip_jax.clip.layout_hf import hf_preprocess_values
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.save import save_clip
from fsclip_jax.clip.tokenizer import load_siglip_tokenizer
from fsclip_jax.errors import UserError
from fsclip_jax.numerics import l2_normalize

NAME = "siglip_patch14"
HALF = (0.5, 0.5, 0.5)


def gemma_files(folder, *, ends=True, padding_side="left"):
    """A tokenizer as SigLIP 2 has it: byte-pair, an end and a padding token, no start."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    letters = "abcdefghijklmnopqrstuvwxyz ,."
    vocab = {token: i for i, token in enumerate(["<pad>", "<eos>", "<unk>", *letters])}
    inner = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    if ends:
        inner.post_processor = processors.TemplateProcessing(
            single="$A <eos>", special_tokens=[("<eos>", 1)]
        )
    PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side=padding_side,
    ).save_pretrained(folder)
    return vocab


@pytest.fixture
def folder(tmp_path):
    config, (_, state) = cases.config_of(NAME), cases.model_of(NAME)
    preprocess = Preprocess(config.vision.image_size, HALF, HALF, fit="squash")
    save_clip("hf", tmp_path, config, state, preprocess)
    gemma_files(tmp_path)
    return tmp_path


def test_a_folder_loads_whole(folder):
    clip = load_clip(str(folder))
    assert clip.config == cases.config_of(NAME)
    assert clip.logit_scale == pytest.approx(np.exp(3.5), rel=1e-6)
    assert clip.logit_bias == -12.5
    assert (clip.preprocess.fit, clip.preprocess.mean) == ("squash", HALF)
    assert (clip.embed_dim, clip.image_size, clip.context_length) == (30, 45, 10)
    ours = cases.encode_image(clip.graphdef, clip.state, cases.pixels_of(NAME))
    whole = cases.encode_image(*cases.model_of(NAME), cases.pixels_of(NAME))
    np.testing.assert_array_equal(ours, whole)


def test_the_logits_are_those_of_transformers(folder):
    torch = pytest.importorskip("torch")
    clip = load_clip(str(folder))
    model = torch_clips.hf_model(NAME)
    pixels, ids = cases.pixels_of(NAME), cases.ids_of(NAME)
    with torch.no_grad():
        theirs = model(
            input_ids=torch.tensor(ids).long(),
            pixel_values=torch.tensor(pixels).permute(0, 3, 1, 2),
        ).logits_per_image.numpy()
    images = l2_normalize(cases.encode_image(clip.graphdef, clip.state, pixels))
    texts = l2_normalize(cases.encode_text(clip.graphdef, clip.state, ids))
    ours = clip.logit_scale * images @ texts.T + clip.logit_bias
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_what_transformers_saves_loads_here(folder, tmp_path_factory):
    pytest.importorskip("torch")
    theirs = tmp_path_factory.mktemp("theirs")
    torch_clips.hf_model(NAME).save_pretrained(theirs)
    gemma_files(theirs)
    values = hf_preprocess_values(Preprocess(45, HALF, HALF, fit="squash"), "SiglipImageProcessor")
    (theirs / "preprocessor_config.json").write_text(json.dumps(values))
    ours, other = load_clip(str(folder)), load_clip(str(theirs))
    assert other.config == ours.config
    images = (
        cases.encode_image(clip.graphdef, clip.state, cases.pixels_of(NAME))
        for clip in (ours, other)
    )
    np.testing.assert_array_equal(*images)


def test_prompts_are_lowered_padded_on_the_right_and_end(folder):
    clip = load_clip(str(folder))
    rows = clip.tokenizer(["A Cat", "a cat", "abcdefghijklmnop"])
    assert rows.shape == (3, 10)
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    wanted = [vocab[letter] for letter in "a cat"] + [1, 0, 0, 0, 0]
    assert rows[0].tolist() == rows[1].tolist() == wanted
    # A long prompt is cut, and still ends.
    assert rows[2].tolist() == [vocab[letter] for letter in "abcdefghi"] + [1]


def test_a_prompt_is_only_encoded_at_its_full_length(folder):
    clip = load_clip(str(folder))
    with pytest.raises(ValueError, match="exactly 10"):
        cases.encode_text(clip.graphdef, clip.state, cases.ids_of(NAME)[:, :8])


def test_padding_counts_as_in_training(folder):
    """What follows the end changes the features, so nothing may cut it away."""
    clip = load_clip(str(folder))
    ids = clip.tokenizer(["a cat"])
    other = np.where(ids == 0, 5, ids)
    encode = cases.encode_text
    ours = np.asarray(encode(clip.graphdef, clip.state, ids))
    assert np.abs(ours - encode(clip.graphdef, clip.state, other)).max() > 1e-3


def test_an_end_that_the_files_leave_out_is_added(folder):
    whole = load_siglip_tokenizer(folder, 10)(["a cat", "abcdefghijklmnop"])
    gemma_files(folder, ends=False)
    again = load_siglip_tokenizer(folder, 10)(["a cat", "abcdefghijklmnop"])
    np.testing.assert_array_equal(again, whole)


def test_tokenizers_that_do_not_fit_are_refused(folder):
    path = folder / "tokenizer_config.json"
    values = json.loads(path.read_text())
    del values["pad_token"]
    path.write_text(json.dumps(values))
    cases.refused(folder, "has no end or no padding token")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    cases.refused(folder, "has no tokenizer; wanted is tokenizer.json or spiece.model")


def test_sentencepiece_is_asked_for_by_name(folder, monkeypatch):
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    cases.refused(folder, "needs the package sentencepiece", "pip install 'fsclip-jax[siglip]'")


def test_a_sentencepiece_model_is_read_as_the_first_siglips(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of a cat", "a photo of a dog", "the quick brown fox"] * 9),
        model_writer=model,
        vocab_size=40,
        hard_vocab_limit=False,
        pad_id=-1,
        bos_id=-1,
        eos_id=1,
        unk_id=0,
        minloglevel=2,
    )
    (tmp_path / "spiece.model").write_bytes(model.getvalue())
    ours = load_siglip_tokenizer(tmp_path, 32)
    plain = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = plain.encode("a photo of a cat")
    # Capitals and punctuation are left out, and the end is the padding too.
    for prompt in ("a photo of a cat", "A photo of a CAT!"):
        assert ours([prompt])[0].tolist() == pieces + [1] * (32 - len(pieces))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"vision_config": {"vision_use_head": False}}, "vision_use_head"),
        ({"vision_config": {"num_channels": 1}}, "1 channels"),
        ({"vision_config": {"patch_size": 500}}, "less than patch_size"),
        ({"text_config": {"hidden_act": "swish"}}, "swish"),
        ({"text_config": {"projection_size": 5}}, "different widths"),
        ({"text_config": {"num_attention_heads": 7}}, "7 heads"),
    ],
)
def test_configs_that_are_not_built_are_refused(values, named):
    with pytest.raises(UserError, match=named) as caught:
        read_config("hf", {"model_type": "siglip", **values})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [{}, cases.SIGLIP_CASES[NAME]])
def test_a_config_reads_as_in_transformers(values):
    from transformers import SiglipConfig

    theirs, ours = (
        SiglipConfig.from_dict(values),
        read_config("hf", {"model_type": "siglip", **values}),
    )
    for part, tower in ((ours.text, theirs.text_config), (ours.vision, theirs.vision_config)):
        assert part.width == tower.hidden_size
        assert part.layers == tower.num_hidden_layers
        assert part.heads == tower.num_attention_heads
        assert part.mlp_width == tower.intermediate_size
        assert part.norm_eps == tower.layer_norm_eps
        assert tower.hidden_act == "gelu_pytorch_tanh"
        assert part.activation == "gelu_tanh"
    assert ours.vision.image_size == theirs.vision_config.image_size
    assert ours.vision.patch_size == theirs.vision_config.patch_size
    assert ours.text.vocab_size == theirs.text_config.vocab_size
    assert ours.text.context_length == theirs.text_config.max_position_embeddings
    assert ours.text.embed_dim == theirs.text_config.projection_size
