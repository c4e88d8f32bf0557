"""Towers trained on a folder of pictures: merged they are any other CLIP, apart they are peft's."""

import json

import clip_cases as cases
import jax
import numpy as np
import pytest
from emoji_folders import write_emoji
from safetensors.numpy import load_file

from fsclip_jax.adapters.clip_lora import ClipLora
from fsclip_jax.cli.main import main
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.lora import merge_lora
from fsclip_jax.clip.save import save_clip
from fsclip_jax.data.folder import open_folder
from fsclip_jax.export.towers import peft_tensors, train_on
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.prediction.config import FolderFit

CASE = "patch16_quick_largest_id"
PREFIX = "base_model.model."


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Labelled emoji, a small vision transformer, and what is exported of both."""
    place = tmp_path_factory.mktemp("towers")
    write_emoji(place, 3)
    mini = load_clip("mini")
    values = dict(cases.HF_CASES[CASE])
    sizes = {"vocab_size": 4096, "max_position_embeddings": 16}
    values["text_config"] = values["text_config"] | sizes
    config = cases.read_config("hf", values)
    _, abstract = cases.model.abstract_clip(config)
    entries = cases.entries_in("hf", config)
    shapes = cases.expected_shapes(cases.leaf_paths(abstract), entries)
    rng = np.random.default_rng(0)
    tensors = {k: np.asarray(rng.normal(0, 0.3, s), np.float32) for k, s in shapes.items()}
    tensors["logit_scale"] = np.array(3.0, np.float32)
    state = cases.fill_state(abstract, tensors, entries)
    (place / "clip").mkdir()
    save_clip("hf", place / "clip", config, state, mini.preprocess, mini.reader())
    for form in ("merged", "peft"):
        flags = ["--support", str(place / "train"), "--shots", "1", "--format", form]
        flags += ["--method", "clip_lora", "--backbone", str(place / "clip")]
        assert main(["export", *flags, "--out", str(place / form)]) == 0
    return place


def test_merged_weights_are_the_old_ones_with_the_matrices_added(place):
    before = load_file(place / "clip" / "model.safetensors")
    merged = load_file(place / "merged" / "model.safetensors")
    matrices = load_file(place / "peft" / "adapter_model.safetensors")
    config = json.loads((place / "peft" / "adapter_config.json").read_text())
    assert config["use_rslora"]
    assert config["base_model_name_or_path"] == str(place / "clip")
    gain = config["lora_alpha"] / config["r"] ** 0.5
    modules = {key.partition(".lora_")[0].removeprefix(PREFIX) for key in matrices}
    layers = 2 + 2
    assert len(modules) == 3 * layers
    for key, array in before.items():
        expected, module = array, key.removesuffix(".weight")
        if module in modules:
            a, b = (matrices[f"{PREFIX}{module}.lora_{part}.weight"] for part in "AB")
            assert a.shape == (2, array.shape[1])
            assert np.abs(b).max() > 1e-3  # it did learn
            expected = array + gain * b @ a
        np.testing.assert_allclose(merged[key], expected, atol=1e-6, err_msg=key)


def test_transformers_reads_the_merged_model(place):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    theirs = transformers.CLIPModel.from_pretrained(place / "merged").eval()
    clip = load_clip(str(place / "merged"))
    pixels = np.random.default_rng(1).normal(size=(3, 32, 32, 3)).astype(np.float32)
    ids = np.asarray(clip.tokenizer(["scorpion", "admission tickets"]))
    with torch.no_grad():
        images = theirs.get_image_features(torch.tensor(pixels).permute(0, 3, 1, 2))
        texts = theirs.get_text_features(torch.tensor(ids).long())
    expected = (np.asarray(getattr(x, "pooler_output", x)) for x in (images, texts))
    ours = (
        cases.encode_image(clip.graphdef, clip.state, pixels),
        cases.encode_text(clip.graphdef, clip.state, ids),
    )
    for mine, other in zip(ours, expected, strict=True):
        assert cases.relative_error(mine, other) < 1e-4


# peft 0.21 asks transformers 5 for an attribute that version 6 renames.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_peft_reads_the_matrices_and_gives_the_logits_of_the_merged_model(place):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    peft = pytest.importorskip("peft")
    theirs = transformers.CLIPModel.from_pretrained(place / "clip").eval()
    clip = load_clip(str(place / "merged"))
    pixels = np.random.default_rng(1).normal(size=(3, 32, 32, 3)).astype(np.float32)
    ids = np.asarray(clip.tokenizer(["scorpion", "admission tickets"]))
    asked = {
        "pixel_values": torch.tensor(pixels).permute(0, 3, 1, 2),
        "input_ids": torch.tensor(ids).long(),
    }
    with torch.no_grad():
        before = theirs(**asked).logits_per_image.numpy()
        loaded = peft.PeftModel.from_pretrained(theirs, place / "peft").eval()
        expected = loaded(**asked).logits_per_image.numpy()
    images = l2_normalize(cases.encode_image(clip.graphdef, clip.state, pixels))
    texts = l2_normalize(cases.encode_text(clip.graphdef, clip.state, ids))
    ours = np.asarray(clip.logit_scale * images @ texts.T)
    assert np.abs(expected - before).max() > 0.01
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_the_card_says_the_prompts_and_the_command(place):
    card = (place / "merged" / "README.md").read_text()
    assert "- a photo of a scorpion." in card
    assert "fsclip export --support" in card


def test_a_resnet_is_adapted_in_its_pooling_and_merges_to_the_same_features(place):
    adapter = ClipLora(steps=2, dropout=0.0)
    trained = train_on(open_folder(place / "train"), FolderFit(shots=2), adapter)
    names = {key.partition(".lora_")[0].removeprefix(PREFIX) for key in peft_tensors(trained)}
    assert {name for name in names if "visual" in name} == {
        f"visual.attnpool.{name}" for name in ("q_proj", "k_proj", "v_proj")
    }
    assert len(names) == 3 + 3 * 2
    state = merge_lora(trained.clip.state, trained.lora, adapter.gain)
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), state, trained.clip.state)
    assert sum(jax.tree.leaves(changed)) == 3 + 3 * 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--format", "merged"], "give --support DIR"),
        (["--format", "peft", "--support", "train", "--method", "gda"], "no other --method"),
        (["--format", "merged", "--support", "train", "--checkpoint", "run"], "leave it out"),
        (
            ["--format", "stablehlo", "--support", "train", "--method", "clip_lora"],
            "--format merged",
        ),
    ],
)
def test_what_does_not_go_is_refused_in_a_line(place, flags, said, capsys, monkeypatch):
    monkeypatch.chdir(place)
    assert main(["export", *flags, "--out", "none"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert not (place / "none").exists()
