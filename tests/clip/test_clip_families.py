"""A new family is one file and one line: here a toy, in this file and in a local table."""

import json
from dataclasses import dataclass

import clip_cases as cases
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from fsclip_jax.clip import families
from fsclip_jax.clip.config import ClipConfig, TextConfig, VitConfig
from fsclip_jax.clip.families import FAMILIES, family_of, layout_of, read_config, text_side
from fsclip_jax.clip.family import Family, FileLayout, TextSide
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.model import cast_weights, encode_image, encode_patches, encode_text, init_clip
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.save import save_clip
from fsclip_jax.clip.tokenizer import load_tokenizer
from fsclip_jax.clip.vit import cut_patches
from fsclip_jax.clip.weights import Entry, leaf_paths
from fsclip_jax.clip.weights_maps import linear_entries
from fsclip_jax.errors import UserError
from fsclip_jax.features.text import encode_prompts

# --- what the one file of a new family holds -------------------------------------------------


@dataclass(frozen=True)
class PatchMean:
    image_size: int
    patch_size: int
    embed_dim: int

    @property
    def grid(self):
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class WordMean:
    vocab_size: int
    context_length: int
    embed_dim: int


class PatchMeanTower(nnx.Module):
    """The mean over linear maps of patches."""

    def __init__(self, config, *, rngs):
        self.config = config
        self.linear = nnx.Linear(3 * config.patch_size**2, config.embed_dim, rngs=rngs)

    def __call__(self, pixels):
        return self.with_patches(pixels)[0]

    def with_patches(self, pixels):
        patches = self.linear(cut_patches(pixels, self.config.patch_size))
        return patches.mean(1), patches


class WordMeanTower(nnx.Module):
    """The mean over the embeddings of tokens."""

    def __init__(self, config, *, rngs):
        shape = (config.vocab_size, config.embed_dim)
        self.token_embedding = nnx.Param(nnx.initializers.normal()(rngs.params(), shape))

    def embed(self, ids):
        return self.token_embedding[...][ids]

    def __call__(self, ids=None, *, embeds=None, ends=None):
        del ends  # every position counts
        return (self.embed(ids) if embeds is None else embeds).mean(1)


def read_toy(values):
    text = values["text_config"]
    return ClipConfig(
        PatchMean(values["side"], values["patch"], values["dim"]),
        WordMean(text["words"], text["length"], values["dim"]),
    )


def write_toy(config):
    text = {"words": config.text.vocab_size, "length": config.text.context_length}
    vision = config.vision
    sizes = {"side": vision.image_size, "patch": vision.patch_size, "dim": vision.embed_dim}
    return {"model_type": "toy", **sizes, "text_config": text}


def toy_entries(_):
    return (
        Entry("logit_scale", "temperature"),
        Entry("logit_bias", "bias"),
        Entry("text.token_embedding", "words.weight"),
        *linear_entries("vision.linear", "patches"),
    )


def toy_tokenizer(folder, text, _):
    return load_tokenizer(folder, text.context_length)


TOY = Family(
    name="a toy",
    shapes=PatchMean,
    tower=PatchMeanTower,
    text=TextSide(
        WordMean, WordMeanTower, toy_tokenizer, no_prompts="is a toy, which has no start token"
    ),
    layouts={"hf": FileLayout("toy", read_toy, write_toy, toy_entries)},
    preprocess=Preprocess(8, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), fit="squash"),
    processor="ToyProcessor",
    logit_bias=-3.0,
)

# --- the one line ----------------------------------------------------------------------------

WITH_TOY = (*FAMILIES, TOY)

CONFIG = ClipConfig(PatchMean(8, 4, 6), WordMean(64, 10, 6))


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", WITH_TOY)
    return WITH_TOY


@pytest.fixture
def folder(table, tokenizer, tmp_path):
    assert TOY in table
    _, state = init_clip(CONFIG, 0)
    save_clip("hf", tmp_path, CONFIG, state, TOY.preprocess, tokenizer)
    return tmp_path


def test_a_family_is_saved_loaded_and_run(folder, tokenizer):
    _, state = init_clip(CONFIG, 0)
    clip = load_clip(str(folder))
    assert clip.config == CONFIG
    assert (clip.embed_dim, clip.image_size, clip.context_length) == (6, 8, 10)
    assert clip.logit_bias == -3
    ours, theirs = leaf_paths(clip.state), leaf_paths(state)
    assert set(ours) == set(theirs)
    for path, leaf in theirs.items():
        np.testing.assert_array_equal(ours[path], leaf, err_msg=path)

    pixels = np.random.RandomState(0).standard_normal((3, 8, 8, 3)).astype(np.float32)
    weights = theirs["vision.linear.kernel"], theirs["vision.linear.bias"]
    images, patches = encode_patches(clip.graphdef, clip.state, jnp.asarray(pixels))
    first = pixels[0, :4, 4:].reshape(-1) @ weights[0] + weights[1]
    np.testing.assert_allclose(patches[0, 1], first, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(images, patches.mean(1), rtol=1e-5, atol=1e-6)

    # The towers see the padding, so no position is left out.
    rows = tokenizer(["a b", "c"])
    np.testing.assert_array_equal(clip.tokenizer(["a b", "c"]), rows)
    texts = np.asarray(theirs["text.token_embedding"])[rows].mean(1)
    np.testing.assert_allclose(
        encode_text(clip.graphdef, clip.state, jnp.asarray(rows)), texts, rtol=1e-5
    )
    unit = texts / np.linalg.norm(texts, axis=-1, keepdims=True)
    np.testing.assert_allclose(encode_prompts(clip, ["a b", "c"]), unit, rtol=1e-4)


def test_files_are_what_the_family_says(folder):
    from safetensors.numpy import load_file

    assert set(load_file(folder / "model.safetensors")) == {entry.key for entry in toy_entries(0)}
    path = folder / "preprocessor_config.json"
    values = json.loads(path.read_text())
    assert values["image_processor_type"] == "ToyProcessor"
    path.write_text("{}")
    assert load_clip(str(folder)).preprocess == TOY.preprocess
    # A weights file with its folder's config beside it, whatever its keys are called.
    assert load_clip(str(folder / "model.safetensors")).config == CONFIG


def test_without_its_line_a_family_is_unknown(folder, monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", FAMILIES)
    with pytest.raises(UserError, match="describes a 'toy' model; accepted are 'clip', 'siglip', "):
        load_clip(str(folder))
    with pytest.raises(ValueError, match="PatchMean and WordMean"):
        family_of(CONFIG)


def test_towers_of_two_families_are_not_built_together():
    text = TextConfig(64, 8, 16, 1, 2, 32, embed_dim=24)
    siglip = cases.config_of("siglip_patch14")
    for config in (
        ClipConfig(VitConfig(32, 16, 30, 1, 3, 48, embed_dim=30), siglip.text),
        ClipConfig(PatchMean(8, 4, 24), text),
    ):
        with pytest.raises(ValueError, match="together"):
            init_clip(config, 0)


@pytest.mark.usefixtures("table")
def test_a_layout_that_a_family_has_not_is_named():
    with pytest.raises(ValueError, match=r"open_clip layout .* a toy; save in Hugging Face layout"):
        layout_of(CONFIG, "open_clip")
    with pytest.raises(ValueError, match="does not know SigLIP"):
        layout_of(cases.config_of("siglip_patch14"), "open_clip")


def test_an_image_tower_may_stand_alone(monkeypatch):
    alone = Family("an image tower", PatchMean, PatchMeanTower, text=None, layouts={})
    monkeypatch.setattr(families, "FAMILIES", (*FAMILIES, alone))
    config = ClipConfig(PatchMean(8, 4, 6), None)
    graphdef, state = init_clip(config, 0)
    assert {path.partition(".")[0] for path in leaf_paths(state)} == {"vision"}
    half = cast_weights(state, jnp.bfloat16)
    for weights in (state, half):
        images = encode_image(graphdef, weights, jnp.ones((2, 8, 8, 3)))
        assert (images.shape, images.dtype) == ((2, 6), jnp.float32)
    assert config.embed_dim == 6
    with pytest.raises(ValueError, match="an image tower has no text tower"):
        text_side(config)


@pytest.mark.parametrize("name", cases.CASES)
def test_every_config_file_is_of_one_family(name):
    """No two tables of one layout lay claim to a file, but for the order that they stand in."""
    config = cases.config_of(name)
    assert family_of(config) in FAMILIES
    values = cases.written_in(cases.layout_name(name), config)
    assert type(read_config(cases.layout_name(name), values).vision) is family_of(config).shapes
