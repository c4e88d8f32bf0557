"""Weights as people bring them: wrapped, resized, of another shape, of families that look alike."""

import dataclasses
import json
import math

import clip_cases as cases
import jax
import numpy as np
import pytest
import torch_clips

from fsclip_jax.clip.families import read_config
from fsclip_jax.clip.files import read_tensors, write_safetensors
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.model import abstract_clip, init_clip
from fsclip_jax.clip.positions import resize_positions
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.save import save_clip
from fsclip_jax.clip.scale import doubt_scale
from fsclip_jax.clip.weights import fill_state, leaf_paths
from fsclip_jax.errors import UserError


def equal_states(ours, theirs):
    for one, other in zip(jax.tree.leaves(ours.state), jax.tree.leaves(theirs.state), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("prefix", "ending"),
    [
        ("", ".ckpt"),
        ("module.", ".pth"),
        ("_orig_mod.module.", ".pth.tar-50"),
        ("model.clip._orig_mod.", "_50"),
        ("student.", ".safetensors"),
    ],
)
@pytest.mark.parametrize("name", ["open_clip_vit", "patch16_quick_largest_id"])
def test_what_training_wraps_around_weights_is_taken_off(name, ending, prefix, parts, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    save_clip("hf" if name in cases.HF_CASES else "open_clip", tmp_path, *parts(name))
    whole = load_clip(str(tmp_path))
    next(tmp_path.glob("*.safetensors")).unlink()
    path = tmp_path / f"checkpoint{ending}"
    tensors = {f"{prefix}{k}": torch.tensor(v) for k, v in cases.tensors_of(name).items()}
    if ending == ".safetensors":
        save_file(tensors, path)
    else:
        zipped = ending != ".pth"
        held = {"model": {"state_dict": tensors}} if ending == "_50" else {"state_dict": tensors}
        torch.save({**held, "epoch": 50}, path, _use_new_zipfile_serialization=zipped)
    equal_states(load_clip(str(path)), whole)
    equal_states(load_clip(str(tmp_path)), whole)


def test_a_text_side_of_its_own_is_open_clips(parts, tmp_path):
    torch = pytest.importorskip("torch")
    open_clip = torch_clips.import_open_clip()
    config = cases.OPEN_CLIP_CASES["open_clip_vit"]
    save_clip("open_clip", tmp_path, *parts("open_clip_vit"))
    path = tmp_path / "open_clip_config.json"
    values = json.loads(path.read_text())
    values["model_cfg"]["custom_text"] = True
    path.write_text(json.dumps(values))
    torch.manual_seed(0)
    model = open_clip.model.CustomTextCLIP(**config).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "epoch_1.pt")
    (tmp_path / "open_clip_model.safetensors").unlink()
    clip = load_clip(str(tmp_path))
    pixels, ids = cases.pixels_of("open_clip_vit"), cases.ids_of("open_clip_vit")
    with torch.no_grad():
        images = model.encode_image(torch.tensor(pixels).permute(0, 3, 1, 2)).numpy()
        texts = model.encode_text(torch.tensor(ids).long()).numpy()
    ours = cases.encode_image(clip.graphdef, clip.state, pixels)
    assert cases.relative_error(ours, images) <= cases.TOLERANCE
    ours = cases.encode_text(clip.graphdef, clip.state, ids)
    assert cases.relative_error(ours, texts) <= cases.TOLERANCE


def test_the_bias_of_a_sigmoid_changes_no_softmax(parts, tmp_path):
    save_clip("open_clip", tmp_path, *parts("open_clip_vit"))
    whole = load_clip(str(tmp_path))
    tensors = {**cases.tensors_of("open_clip_vit"), "logit_bias": np.float32([-10])}
    write_safetensors(tmp_path / "open_clip_model.safetensors", tensors, "float32")
    path = tmp_path / "open_clip_config.json"
    values = json.loads(path.read_text())
    values["model_cfg"]["init_logit_bias"] = -10
    path.write_text(json.dumps(values))
    equal_states(load_clip(str(tmp_path)), whole)


def test_what_stays_refused_is_named(parts, tmp_path):
    save_clip("open_clip", tmp_path, *parts("open_clip_vit"))
    tensors = cases.tensors_of("open_clip_vit")
    file = tmp_path / "open_clip_model.safetensors"
    two = {
        f"{who}.{key}": array for who in ("student", "teacher") for key, array in tensors.items()
    }
    write_safetensors(file, two, "float32")
    cases.refused(tmp_path, "more than once, under student., teacher.")
    write_safetensors(file, {**tensors, "model.logit_scale": np.float32(1)}, "float32")
    cases.refused(tmp_path, "unused: model.logit_scale")
    (tmp_path / "notes.txt").write_text("hello")
    cases.refused(tmp_path / "notes.txt", "ends in '.txt'", ".ckpt")


@pytest.mark.parametrize(
    ("prefix", "beside"),
    [
        ("model.", {"loss.temperature": 1, "criterion.weight": 4, "head.bias": 3}),
        ("model.", "model_ema."),
        ("module.clip.", "ema_model.module.clip."),
        ("", {"loss.temperature": 1, "model_ema.decay": 1, "model_ema.visualconv1weight": 9}),
        ("", "ema."),
    ],
)
def test_what_a_training_loop_keeps_beside_a_model_is_left_out(
    prefix, beside, parts, tmp_path, capsys
):
    save_clip("open_clip", tmp_path, *parts("open_clip_vit"))
    whole = load_clip(str(tmp_path))
    assert not capsys.readouterr().err
    model = cases.tensors_of("open_clip_vit")
    if isinstance(beside, str):  # an average of the model, which comes first in the file
        others = {f"{beside}{key}": array + 1 for key, array in model.items()}
    else:
        others = {key: np.ones(size, np.float32) for key, size in beside.items()}
    held = {**others, **{f"{prefix}{key}": array for key, array in model.items()}}
    write_safetensors(tmp_path / "open_clip_model.safetensors", held, "float32")
    equal_states(load_clip(str(tmp_path)), whole)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert f"weights under {prefix}" in line if prefix else "the model's weights are read" in line
    assert f"{len(others)} beside them are not: {sorted(others)[0]}" in line


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("name", ["open_clip_vit", "patch16_quick_largest_id", "siglip_patch14"])
def test_one_number_is_a_logit_scale_in_any_shape(name, shape):
    config, tensors = cases.config_of(name), cases.tensors_of(name)
    _, abstract = abstract_clip(config)
    for stored, said in ((3.5, ""), (1.5, "the logarithm was given"), (100, "for its logarithm")):
        tensors["logit_scale"] = np.full(shape, stored, np.float32)
        state = fill_state(abstract, tensors, cases.entries_of(name))
        assert leaf_paths(state)["logit_scale"].shape == ()
        assert float(leaf_paths(state)["logit_scale"]) == stored
        assert said in (doubt_scale(math.exp(stored)) or "")


def test_an_odd_logit_scale_is_doubted(parts, tmp_path, capsys):
    save_clip("open_clip", tmp_path, *parts("open_clip_vit"))
    load_clip(str(tmp_path))
    assert not capsys.readouterr().err
    tensors = {**cases.tensors_of("open_clip_vit"), "logit_scale": np.array([np.log(4.6)])}
    write_safetensors(tmp_path / "open_clip_model.safetensors", tensors, "float32")
    clip = load_clip(str(tmp_path))
    assert clip.logit_scale == pytest.approx(4.6)
    line = capsys.readouterr().err
    assert line.startswith("note: ")
    assert "the logit scale is 4.6, where CLIPs have 10 to 120; likely the logarithm" in line


def positions_saved(folder, name, size, parts):
    """Save a case for images of a size that its position table does not fit."""
    config, _, _, tokenizer = parts(name)
    config = dataclasses.replace(config, vision=dataclasses.replace(config.vision, image_size=size))
    layout = "hf" if name in cases.HF_CASES else "open_clip"
    _, state = init_clip(config, 0)
    save_clip(layout, folder, config, state, Preprocess(size), tokenizer)
    file = next(folder.glob("*.safetensors"))
    return file, read_tensors(file)


@pytest.mark.parametrize(("given", "size"), [(64, 112), (112, 48), (32, 48), (48, 32)])
def test_positions_of_another_grid_are_resized_as_open_clip_does(
    given, size, parts, tmp_path, capsys
):
    torch = pytest.importorskip("torch")
    open_clip = torch_clips.import_open_clip()
    file, tensors = positions_saved(tmp_path, "open_clip_vit", size, parts)
    load_clip(str(tmp_path))
    assert not capsys.readouterr().err
    key, grid = "visual.positional_embedding", given // 16
    table = np.random.RandomState(0).standard_normal((grid**2 + 1, 24)).astype(np.float32)
    write_safetensors(file, {**tensors, key: table}, "float32")
    clip = load_clip(str(tmp_path))
    line = capsys.readouterr().err
    assert f"positions of {grid} x {grid} patches were resized" in line
    assert line.count("\n") == 1
    values = json.loads((tmp_path / "open_clip_config.json").read_text())["model_cfg"]
    model = open_clip.model.CLIP(**values).eval()
    theirs = {name: torch.tensor(array) for name, array in {**tensors, key: table}.items()}
    open_clip.model.resize_pos_embed(theirs, model)
    ours = leaf_paths(clip.state)["vision.position_embedding"]
    assert cases.relative_error(ours, theirs[key].numpy()) <= cases.TOLERANCE
    model.load_state_dict(theirs, strict=False)
    pixels = np.random.RandomState(1).standard_normal((2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        images = model.encode_image(torch.tensor(pixels).permute(0, 3, 1, 2)).numpy()
    ours = cases.encode_image(clip.graphdef, clip.state, pixels)
    assert cases.relative_error(ours, images) <= cases.TOLERANCE


def test_positions_are_resized_in_hugging_faces_layout_too_and_else_refused(
    parts, tmp_path, capsys
):
    file, tensors = positions_saved(tmp_path, "patch16_quick_largest_id", 64, parts)
    key = "vision_model.embeddings.position_embedding.weight"
    table = np.random.RandomState(0).standard_normal((10, 30)).astype(np.float32)
    write_safetensors(file, {**tensors, key: table}, "float32")
    ours = leaf_paths(load_clip(str(tmp_path)).state)["vision.position_embedding"]
    np.testing.assert_array_equal(ours, resize_positions(table, 4, 1))
    assert "of 3 x 3 patches were resized to the config's 4 x 4" in capsys.readouterr().err
    write_safetensors(file, {**tensors, key: table[:9]}, "float32")
    cases.refused(tmp_path, f"{key} is [9, 30], wanted [17, 30]")


def world_tokenizer(start):
    """A small tokenizer with XLM-V's order of the special ids, or mT5's without a start."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"] if start else ["<pad>", "</s>", "<unk>"]
    vocab = {token: i for i, token in enumerate([*special, *(f"w{i}" for i in range(50))])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ids = [(token, vocab[token]) for token in special if token in ("<s>", "</s>")]
    around = "<s> $A </s>" if start else "$A </s>"
    inner.post_processor = processors.TemplateProcessing(single=around, special_tokens=ids)
    tokens = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **tokens)


@pytest.mark.parametrize(("start", "ends"), [(True, 2), (False, 1)])
def test_metaclip_2_is_that_of_transformers(start, ends, tmp_path):
    torch = pytest.importorskip("torch")
    from transformers import CLIPImageProcessor, MetaClip2Config, MetaClip2Model

    values = {**cases.HF_CASES["patch14_gelu_own_eos"], "model_type": "metaclip_2"}
    values["text_config"] = {**values["text_config"], "eos_token_id": ends, "pad_token_id": 1}
    torch.manual_seed(0)
    model = MetaClip2Model(MetaClip2Config.from_dict(values)).eval()
    model.save_pretrained(tmp_path)
    world_tokenizer(start).save_pretrained(tmp_path)
    size = {"shortest_edge": 42}
    CLIPImageProcessor(size=size, crop_size=42).save_pretrained(tmp_path)
    clip = load_clip(str(tmp_path))
    pixels = np.random.RandomState(1).standard_normal((2, 42, 42, 3)).astype(np.float32)
    ids = clip.tokenizer(["w1 w49 w7", "w3"])
    with torch.no_grad():
        images = model.get_image_features(torch.tensor(pixels).permute(0, 3, 1, 2)).pooler_output
        texts = model.get_text_features(torch.tensor(ids).long()).pooler_output
    ours = cases.encode_image(clip.graphdef, clip.state, pixels)
    assert cases.relative_error(ours, images.numpy()) <= cases.TOLERANCE
    ours = cases.encode_text(clip.graphdef, clip.state, ids)
    assert cases.relative_error(ours, texts.numpy()) <= cases.TOLERANCE
    again = tmp_path / "again"
    save_clip("hf", again, clip.config, clip.state, clip.preprocess, clip.tokenizer)
    equal_states(load_clip(str(again)), clip)
    if start:  # at id 1 a CLIP reads as a MetaCLIP 2 does, and is written as one
        kept = MetaClip2Model.from_pretrained(again)
        with torch.no_grad():
            again = kept.get_text_features(torch.tensor(ids).long()).pooler_output
        assert cases.relative_error(again, texts) <= cases.TOLERANCE


def test_worldwide_models_of_open_clip_load():
    torch_clips.import_open_clip()
    from open_clip.factory import get_model_config

    for name in ("ViT-H-14-worldwide-quickgelu", "ViT-L-14-worldwide", "ViT-H-14-quickgelu"):
        config = read_config("open_clip", get_model_config(name))
        assert config.text.activation == ("quick_gelu" if "quick" in name else "gelu")
    with pytest.raises(UserError, match="timm_model_name='eva02"):
        read_config("open_clip", get_model_config("EVA02-L-14"))
