"""Image towers without text: those of transformers, on random weights, through whole folders."""

import json

import clip_cases as cases
import jax
import numpy as np
import pytest
from PIL import Image

from fsclip_jax.clip.families import family_of
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.model import encode_patches
from fsclip_jax.clip.save import save_clip
from fsclip_jax.errors import UserError
from fsclip_jax.features.text import encode_prompts

DINO = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "patch_size": 14}
VIT = {**DINO, "intermediate_size": 40, "image_size": 42}
# Positions of 5 x 5 patches, pictures of 4 x 4 and a margin that no patch covers.
MADE = {
    "dinov2": ("Dinov2Model", DINO | {"image_size": 70}, 64),
    "of its own size": ("Dinov2Model", DINO | {"image_size": 70}, 70),
    "larger pictures": ("Dinov2Model", DINO | {"image_size": 28}, 84),
    "gated": ("Dinov2Model", DINO | {"image_size": 70, "use_swiglu_ffn": True}, 64),
    "registers": ("Dinov2WithRegistersModel", DINO | {"image_size": 70}, 64),
    "more pixels and registers": ("Dinov2WithRegistersModel", DINO | {"image_size": 28}, 84),
    "a classifier": ("Dinov2ForImageClassification", DINO | {"image_size": 70}, 64),
    "clip": ("CLIPVisionModel", VIT, 42),
    "clip, projected": ("CLIPVisionModelWithProjection", VIT | {"projection_dim": 10}, 42),
    "metaclip 2": ("MetaClip2VisionModelWithProjection", VIT | {"projection_dim": 10}, 42),
    "siglip": ("SiglipVisionModel", VIT | {"image_size": 45}, 45),
}


def their_model(name, folder):
    """Save a model of transformers with weights that all matter, and return it."""
    torch = pytest.importorskip("torch")
    import transformers

    kind, values, size = MADE[name]
    made = getattr(transformers, kind)
    torch.manual_seed(0)
    model = made(made.config_class(**values)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    crop = {"height": size, "width": size}
    images = {"do_center_crop": True, "crop_size": crop, "size": {"shortest_edge": size + 8}}
    if name == "siglip":
        images = {"size": crop}
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return model


def pixels_of(name):
    size = MADE[name][2]
    return np.random.RandomState(1).standard_normal((3, size, size, 3)).astype(np.float32)


def their_features(name, model):
    torch = pytest.importorskip("torch")
    with torch.no_grad():
        found = getattr(model, "dinov2", model)(torch.tensor(pixels_of(name)).permute(0, 3, 1, 2))
    whole = found.image_embeds if "projected" in name or "metaclip" in name else found.pooler_output
    return whole.numpy(), found.last_hidden_state.numpy()


@pytest.mark.parametrize("name", MADE)
def test_features_are_those_of_transformers(name, tmp_path):
    model = their_model(name, tmp_path)
    clip = load_clip(str(tmp_path))
    theirs, hidden = their_features(name, model)
    ours = cases.encode_image(clip.graphdef, clip.state, pixels_of(name))
    assert cases.relative_error(ours, theirs) <= 1e-4
    whole, patches = jax.jit(encode_patches, static_argnums=0)(
        clip.graphdef, clip.state, pixels_of(name)
    )
    assert cases.relative_error(whole, theirs) <= 1e-4
    if MADE[name][0].startswith("Dino"):
        assert cases.relative_error(patches, hidden[:, -(clip.config.vision.grid**2) :]) <= 1e-4


@pytest.mark.parametrize("name", MADE)
def test_a_tower_is_saved_and_loaded_again(name, tmp_path):
    their_model(name, tmp_path)
    clip = load_clip(str(tmp_path))
    save_clip("hf", tmp_path / "again", clip.config, clip.state, clip.preprocess)
    again = load_clip(str(tmp_path / "again"))
    assert (again.config, again.preprocess) == (clip.config, clip.preprocess)
    for one, other in zip(jax.tree.leaves(again.state), jax.tree.leaves(clip.state), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["dinov2", "gated", "registers", "clip", "siglip"])
def test_weights_as_they_are_called_in_memory_load_too(name, tmp_path):
    torch = pytest.importorskip("torch")
    model = their_model(name, tmp_path)
    clip = load_clip(str(tmp_path))
    (tmp_path / "model.safetensors").unlink()
    held = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"state_dict": held}, tmp_path / "last.ckpt")
    again = load_clip(str(tmp_path))
    for one, other in zip(jax.tree.leaves(again.state), jax.tree.leaves(clip.state), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_head_beside_a_tower_is_left_out_in_a_note(tmp_path, capsys):
    their_model("a classifier", tmp_path)
    capsys.readouterr()  # transformers' own
    load_clip(str(tmp_path))
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "the weights under dinov2. are read; 2 beside them are not: classifier.bias" in line


def test_pictures_are_cut_as_transformers_cuts_them(tmp_path):
    pytest.importorskip("torch")
    from transformers import BitImageProcessor

    their_model("dinov2", tmp_path)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    theirs = BitImageProcessor(
        size={"shortest_edge": 73}, crop_size={"height": 64, "width": 64},
        image_mean=mean, image_std=std, resample=3,
    )  # fmt: skip
    theirs.save_pretrained(tmp_path)
    clip = load_clip(str(tmp_path))
    assert (clip.preprocess.size, clip.preprocess.edge) == (64, 73)
    for shape in ((120, 90), (77, 200), (64, 64)):
        pixels = np.random.RandomState(2).randint(0, 256, (*shape, 3), np.uint8)
        picture = Image.fromarray(pixels)
        ours = clip.preprocess.normalize(clip.preprocess.crop(picture)[None])[0]
        found = np.asarray(theirs(picture)["pixel_values"][0]).transpose(1, 2, 0)
        np.testing.assert_allclose(ours, found, atol=1e-5)


def test_what_a_preprocessing_leaves_out_is_dinov2s(tmp_path):
    their_model("of its own size", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{}")
    prepare = load_clip(str(tmp_path)).preprocess
    assert (prepare.size, prepare.edge, prepare.mean[0], prepare.std[2]) == (224, 256, 0.485, 0.225)


def test_a_tower_says_that_it_has_no_text(tmp_path):
    their_model("dinov2", tmp_path)
    clip = load_clip(str(tmp_path))
    assert clip.tokenizer is None
    assert family_of(clip.config).text is None
    assert clip.logit_scale == pytest.approx(1 / 0.07, rel=1e-4)
    assert (clip.embed_dim, clip.image_size) == (24, 64)
    with pytest.raises(UserError, match="an image tower without text, which reads no class names"):
        encode_prompts(clip, ["a cat"])


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("dinov2", {"qkv_bias": False}, "qkv_bias=false"),
        ("dinov2", {"num_attention_heads": 5}, "width 24 is no multiple of its 5 heads"),
        ("dinov2", {"use_swiglu_ffn": True}, "does not hold the weights"),
        ("dinov2", {"mlp_ratio": "four"}, "vision_config.mlp_ratio='four'"),
        ("siglip", {"vision_use_head": False}, "vision_use_head=false"),
        ("clip", {"architectures": ["CLIPVisionModelWithProjection"]}, "embed_dim 512"),
    ],
)
def test_other_towers_are_refused(name, change, said, tmp_path):
    their_model(name, tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    cases.refused(tmp_path, said)
