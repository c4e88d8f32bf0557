"""Single weights files, and what a tokenizer comes from when none lies beside them."""

import dataclasses
import hashlib
import json
import shutil
import warnings

import clip_cases as cases
import jax
import numpy as np
import pytest
import torch_clips
from torch_archives import write_state_dict

from fsclip_jax.clip.config import ClipConfig, ResNetConfig, TextConfig, VitConfig
from fsclip_jax.clip.families import read_config
from fsclip_jax.clip.files import write_safetensors
from fsclip_jax.clip.layout_openai import SUMS, shapes_values
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.model import abstract_clip
from fsclip_jax.clip.published import KNOWN
from fsclip_jax.clip.save import save_clip
from fsclip_jax.clip.weights import expected_shapes, leaf_paths

TEXT = TextConfig(49408, 77, 64, 2, 1, 256, 24)
OPENAI = {
    "vit": ClipConfig(VitConfig(64, 16, 128, 3, 2, 512, 24), TEXT),
    "resnet": ClipConfig(ResNetConfig((1, 2, 1, 2), 8, 64, 24, 4), TEXT),
}
MARKS = {
    "input_resolution": np.array(64, np.int64),
    "context_length": np.array(77, np.int64),
    "vocab_size": np.array(49408, np.int64),
}


def tensors_of(config):
    """Weights under OpenAI's names, in float16 but for what its archives keep in float32."""
    _, abstract = abstract_clip(config)
    shapes = expected_shapes(leaf_paths(abstract), cases.entries_in("open_clip", config))
    rng = np.random.RandomState(0)
    tensors = {}
    for key, shape in shapes.items():
        noise = np.asarray(0.3 * rng.standard_normal(shape), np.float16)
        tensors[key] = np.exp(noise) if key.endswith("running_var") else noise  # positive
        if key.endswith(("embedding", "logit_scale", "projection")):
            tensors[key] = tensors[key].astype(np.float32)
    return tensors


@pytest.mark.parametrize("name", OPENAI)
def test_an_archive_of_openai_needs_nothing_beside_it(name, tmp_path):
    config, tensors = OPENAI[name], tensors_of(OPENAI[name])
    path = write_state_dict(tmp_path / "RN50.pt", tensors | MARKS, scripted=True)
    clip = load_clip(str(path))
    assert clip.config.text == config.text
    assert clip.config.vision.image_size == 64
    assert clip.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (clip.preprocess.size, clip.preprocess.odd_margin) == (64, "round")
    assert clip.logit_scale == pytest.approx(np.exp(tensors["logit_scale"]), rel=1e-6)
    ids = clip.tokenizer(["a photo of a cat"])
    assert ids[0, :7].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407]
    # The same weights, read with a config.
    folder = tmp_path / "folder"
    folder.mkdir()
    model = cases.written_in("open_clip", config)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    write_safetensors(folder / "open_clip_model.safetensors", tensors, "float32")
    other = load_clip(str(folder))
    assert other.config == clip.config
    for ours, theirs in zip(jax.tree.leaves(clip.state), jax.tree.leaves(other.state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(other.tokenizer(["a photo of a cat"]), ids)


@pytest.mark.parametrize("name", OPENAI)
def test_a_real_torchscript_archive_gives_open_clips_features(name, tmp_path):
    torch = pytest.importorskip("torch")
    config = OPENAI[name]
    model = (
        torch_clips.import_open_clip().model.CLIP(**cases.written_in("open_clip", config)).eval()
    )
    tensors = {key: torch.tensor(array).float() for key, array in tensors_of(config).items()}
    model.load_state_dict(tensors, strict=False)
    for key, number in MARKS.items():
        if hasattr(model, key):
            delattr(model, key)
        model.register_buffer(key, torch.tensor(int(number)))
    pixels = torch.randn(2, 3, 64, 64)
    ids = torch.zeros(2, 77, dtype=torch.long)
    ids[:, 0], ids[0, 3], ids[1, 5] = 49406, 49407, 49407
    path = tmp_path / f"{name}.pt"
    with torch.no_grad():
        images, texts = model.encode_image(pixels), model.encode_text(ids)
        with warnings.catch_warnings():  # tracing is deprecated, and says where it is shaky
            warnings.simplefilter("ignore")
            torch.jit.trace(model, (pixels, ids), check_trace=False).save(str(path))
    clip = load_clip(str(path))
    ours = cases.encode_image(clip.graphdef, clip.state, pixels.permute(0, 2, 3, 1).numpy())
    assert cases.relative_error(ours, images.numpy()) <= 1e-4
    ours = cases.encode_text(clip.graphdef, clip.state, ids.numpy().astype(np.int32))
    assert cases.relative_error(ours, texts.numpy()) <= 1e-4


def test_shapes_give_the_configs_of_the_release():
    # Without memory: an array of strides 0 has any shape.
    for model in KNOWN:
        if model.name in ("RN50", "RN50x4", "ViT-B/32", "ViT-L/14@336px"):
            _, abstract = abstract_clip(model.config)
            shapes = expected_shapes(
                leaf_paths(abstract), cases.entries_in("open_clip", model.config)
            )
            empty = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
            assert read_config("open_clip", shapes_values(empty)) == model.config


def test_a_published_file_is_known_by_its_sum(tmp_path, monkeypatch):
    path = write_state_dict(tmp_path / "state.pt", tensors_of(OPENAI["vit"]))
    cases.refused(path, "does not say which activation", "open_clip_config.json")
    monkeypatch.setitem(SUMS, "tiny", hashlib.sha256(path.read_bytes()).hexdigest())
    assert load_clip(str(path)).config == OPENAI["vit"]


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ".bin"])
@pytest.mark.parametrize("name", ["open_clip_vit", "open_clip_rn", "patch16_quick_largest_id"])
def test_other_files_are_read_with_the_config_beside_them(name, ending, parts, tmp_path):
    layout = "hf" if name in cases.HF_CASES else "open_clip"
    save_clip(layout, tmp_path, *parts(name))
    whole = load_clip(str(tmp_path))
    made = next(tmp_path.glob("*.safetensors"))
    file = tmp_path / f"weights{ending}"
    if ending == ".safetensors":
        made.rename(file)
    else:
        made.unlink()
        write_state_dict(file, cases.tensors_of(name))
    clip = load_clip(str(file))
    assert clip.config == whole.config
    for ours, theirs in zip(jax.tree.leaves(clip.state), jax.tree.leaves(whole.state), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    folder = load_clip(str(tmp_path))  # its only file of weights, by whatever name
    assert folder.sha256 == clip.sha256
    shutil.copy(file, tmp_path / "another.pth")
    cases.refused(tmp_path, "several files of weights, another.pth", file.name)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(file, alone)
    cases.refused(alone / file.name, "config.json")
    cases.refused(alone, "config.json")
    (alone / file.name).unlink()
    cases.refused(alone, "holds no CLIP")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("patch16_quick_largest_id", "pytorch_model.bin"),
        ("open_clip_vit", "open_clip_pytorch_model.bin"),
    ],
)
def test_a_folder_may_hold_pytorchs_own_archive(name, file, parts, tmp_path):
    layout = "hf" if name in cases.HF_CASES else "open_clip"
    save_clip(layout, tmp_path, *parts(name))
    whole = load_clip(str(tmp_path))
    next(tmp_path.glob("*.safetensors")).unlink()
    write_state_dict(tmp_path / file, cases.tensors_of(name))
    for ours, theirs in zip(
        jax.tree.leaves(load_clip(str(tmp_path)).state), jax.tree.leaves(whole.state), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_weights_of_other_architectures_are_refused(tmp_path):
    path = tmp_path / "resnet50.safetensors"
    write_safetensors(path, {"conv1.weight": np.zeros((4, 3, 7, 7), np.float32)}, "float32")
    cases.refused(path, "holds no CLIP", "conv1.weight")
    # Half of OpenAI's own: what is missing is said.
    tensors = tensors_of(OPENAI["vit"]) | MARKS
    for key in list(tensors):
        if key.startswith("visual.transformer"):
            del tensors[key]
    cases.refused(write_state_dict(tmp_path / "half.pt", tensors), "visual.transformer.resblocks.0")
    tensors = tensors_of(OPENAI["vit"]) | MARKS
    tensors["visual.positional_embedding"] = np.zeros((19, 128), np.float16)
    cases.refused(write_state_dict(tmp_path / "odd.pt", tensors), "19 positions", "no square")


def test_a_named_tokenizer_is_not_replaced_by_the_bundled_one(tmp_path):
    config = OPENAI["vit"]
    model = cases.written_in("open_clip", config)
    model["text_cfg"]["hf_tokenizer_name"] = "somebody/bpe"
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": model}))
    write_safetensors(tmp_path / "open_clip_model.safetensors", tensors_of(config), "float32")
    cases.refused(tmp_path, "has no tokenizer")


PROMPTS = [
    "a photo of a Boeing 737-200, a type of aircraft.",
    "itap of a chow-chow's 12.5% dog",
    "Naïve Café Ünïcödé 日本語 🙂 ß",
    "  weird   spaces\n here",
    "don't can't we'll O'Neill @user #tag",
    "",
    "!",
    "word " * 100,
    # What language models, web pages and old files make of it.
    "the \u201ccat\u2019s\u201d paw \u2013 it\u2019s \u2018soft\u2019 \u2026",
    "black &amp; white, &amp;amp; &amp;lt;b&amp;gt; &quot;x&quot; &#39;y&#39; <i>&eacute;</i>",
    "o\ufb03ce \ufb02ower \ufb01sh",
    "\uff21\uff22\uff23 \uff11\uff12\uff13\uff01 ｶﾅ",
    "schÃ¶n cafÃ© â€œquotedâ€\x9d donâ€™t",
    "non\u00a0breaking\u3000space, zero\u200bwidth, so\u00adft, bom\ufeff",
    "line\r\nbreak\x0bs \x1b[31mred\x1b[0m \x00",
    "ΟΔΟΣ İstanbul ŒUVRE",
]


def test_the_bundled_tokenizer_is_open_clips(tmp_path):
    torch_clips.import_open_clip()
    import open_clip.tokenizer as theirs

    path = write_state_dict(tmp_path / "a.pt", tensors_of(OPENAI["vit"]) | MARKS, scripted=True)
    ours = load_clip(str(path)).tokenizer(PROMPTS)
    tokens = theirs.SimpleTokenizer()(PROMPTS).numpy()
    for prompt, mine, their in zip(PROMPTS, ours, tokens, strict=True):
        end = int(their.argmax())
        assert mine[: end + 1].tolist() == their[: end + 1].tolist(), prompt
        assert (mine[end:] == 49407).all()


@pytest.mark.parametrize("clean", ["whitespace", "canonicalize", "lower"])
def test_a_named_tokenizer_cleans_prompts_as_open_clip_says(clean, parts, tmp_path):
    torch_clips.import_open_clip()
    from open_clip.tokenizer import HFTokenizer

    config, state, preprocess, tokenizer = parts("open_clip_vit")
    save_clip("open_clip", tmp_path, config, state, preprocess, tokenizer)
    path = tmp_path / "open_clip_config.json"
    values = json.loads(path.read_text())
    told = {} if clean == "whitespace" else {"tokenizer_kwargs": {"clean": clean}}
    values["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "somebody/bpe", **told}
    path.write_text(json.dumps(values))
    prompts = ["Jab\u2019s &amp;amp; CAB_face!", "\uff42\uff41\uff44 dÃ©cade"]
    theirs = HFTokenizer(str(tmp_path), context_length=10, clean=clean)
    np.testing.assert_array_equal(load_clip(str(tmp_path)).tokenizer(prompts), theirs(prompts))


def test_in_hugging_faces_layout_prompts_are_those_of_transformers(parts, tmp_path):
    from transformers import AutoTokenizer

    save_clip("hf", tmp_path, *parts("patch16_quick_largest_id"))
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    settings = {"padding": "max_length", "truncation": True, "max_length": 10}
    ours = load_clip(str(tmp_path)).tokenizer(PROMPTS)
    np.testing.assert_array_equal(ours, theirs(PROMPTS, **settings)["input_ids"])


def test_repair_leaves_plain_names_as_they_are():
    mini = load_clip("mini").tokenizer
    names = [f"{name} face with {name}." for name in ("cat", "Hot Dog", "T-shirt", "o'clock #1")]
    np.testing.assert_array_equal(mini(names), dataclasses.replace(mini, clean=str)(names))
