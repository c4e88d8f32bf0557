"""Model folders of which nobody vouches: no size in a config is believed before its weights."""

import json
import time
import tracemalloc

import clip_cases as cases
import numpy as np
import pytest

from fsclip_jax.clip.files import write_safetensors
from fsclip_jax.clip.positions import resize_positions
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.save import save_clip
from fsclip_jax.clip.tokenizer import load_tokenizer

HF, VIT, RESNET = "patch16_quick_largest_id", "open_clip_vit", "open_clip_rn"
SIGLIP = "siglip_patch14"
MEGABYTES, SECONDS = 100, 30
TOWERS = "text_config", "vision_config"


@pytest.fixture(scope="module")
def folder_of(tokenizer, tmp_path_factory):
    """Write a model once; a test edits its files, and they are put back before the next one."""
    written = {}

    def make(name):
        if name not in written:
            folder = tmp_path_factory.mktemp(name)
            config, (_, state) = cases.config_of(name), cases.model_of(name)
            preprocess = Preprocess(config.vision.image_size)
            save_clip(cases.layout_name(name), folder, config, state, preprocess, tokenizer)
            written[name] = {file: file.read_bytes() for file in folder.iterdir()}
        for file, content in written[name].items():
            file.write_bytes(content)
        return next(iter(written[name])).parent

    return make


def edit(file, path, value):
    """Set the value at a dotted path of a JSON file; a dot alone is the whole file."""
    tree = json.loads(file.read_text())
    node = tree
    *parents, last = path.split(".") if path != "." else [""]
    for name in parents:
        node = node.setdefault(name, {})
    if path == ".":
        tree = value
    else:
        node[last] = value
    file.write_text(json.dumps(tree))


def refused(folder, *told):
    """Load what must be refused: in one short line, soon, and without much memory."""
    began = time.monotonic()
    tracemalloc.start()
    try:
        line = cases.refused(folder, *told)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(line) < 1500
    assert peak < MEGABYTES * 2**20
    assert time.monotonic() - began < SECONDS


WIDTHS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
NO_SIZES = (0, -1, 2**63, 10**400, 1.5, True, "7", None, [], {}, [[7]])
HUGGING_FACE = [
    *((f"{tower}.{name}", 0) for tower in TOWERS for name in WIDTHS),
    *(("text_config.hidden_size", value) for value in NO_SIZES),
    *(("vision_config.image_size", value) for value in (*NO_SIZES, 10**9, [32, 16])),
    *(("vision_config.patch_size", value) for value in (*NO_SIZES, 10**9, 15)),
    *(("projection_dim", value) for value in (*NO_SIZES, 10**9)),
    *((f"{tower}.num_hidden_layers", 10**6) for tower in TOWERS),
    ("text_config.max_position_embeddings", 10**9),
    ("text_config.vocab_size", 10**9),
    ("text_config.hidden_size", 10**9),
    ("vision_config.intermediate_size", 2**31 - 1),
    ("text_config.num_attention_heads", 7),
    ("text_config.layer_norm_eps", float("nan")),
    ("text_config.layer_norm_eps", 1e308),
    ("text_config.eos_token_id", -1),
    ("logit_scale_init_value", float("nan")),
    ("logit_scale_init_value", "4"),
    ("text_config", [1]),
    ("vision_config", "x"),
    ("text_config_dict", 7),
    (".", []),
    (".", None),
    ("model_type", "x" * 10**6),
    ("model_type", [[7]]),
]


@pytest.mark.parametrize(("path", "value"), HUGGING_FACE)
def test_sizes_in_hugging_faces_config(folder_of, path, value):
    folder = folder_of(HF)
    edit(folder / "config.json", path, value)
    refused(folder)


OPEN_CLIP = [
    *((f"{tower}.width", v) for tower in ("vision_cfg", "text_cfg") for v in (*NO_SIZES, 10**9)),
    *((f"{tower}.layers", 10**6) for tower in ("vision_cfg", "text_cfg")),
    *((f"{tower}.mlp_ratio", v) for tower in ("vision_cfg", "text_cfg") for v in (0, 1e308, "4")),
    *((f"text_cfg.{name}", 10**9) for name in ("context_length", "vocab_size", "heads")),
    *(("vision_cfg.head_width", value) for value in (0, 10**9, None)),
    ("text_cfg.heads", 7),
    ("vision_cfg.image_size", 10**9),
    ("embed_dim", 2**63),
    ("vision_cfg", None),
    ("text_cfg", []),
]


@pytest.mark.parametrize("name", [VIT, RESNET])
@pytest.mark.parametrize(("path", "value"), OPEN_CLIP)
def test_sizes_in_open_clips_config(folder_of, name, path, value):
    folder = folder_of(name)
    if path.endswith("mlp_ratio") and path.startswith("vision") and name == RESNET:
        pytest.skip("a ResNet has no perceptron")
    edit(folder / "open_clip_config.json", f"model_cfg.{path}", value)
    refused(folder)


@pytest.mark.parametrize(
    "layers", [[1, 1, 1], [1, 1, 1, 0], [10**6] * 4, [1, 1, 1, "2"], [[1]] * 4]
)
def test_stages_of_a_resnet(folder_of, layers):
    folder = folder_of(RESNET)
    edit(folder / "open_clip_config.json", "model_cfg.vision_cfg.layers", layers)
    refused(folder)


@pytest.mark.parametrize("value", [None, [], [1], 7, "x"])
@pytest.mark.parametrize("part", ["model_cfg", "preprocess_cfg"])
def test_parts_of_open_clips_config_that_are_no_objects(folder_of, part, value):
    folder = folder_of(VIT)
    edit(folder / "open_clip_config.json", part, value)
    refused(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(("text_config.projection_size", value) for value in (-1, 2**63, "7", [7], 10**9)),
        ("text_config.max_position_embeddings", 10**9),
        ("vision_config.image_size", 10**9),
        ("vision_config.patch_size", 0),
        ("vision_config.num_hidden_layers", 10**6),
    ],
)
def test_sizes_in_siglips_config(folder_of, path, value):
    folder = folder_of(SIGLIP)
    edit(folder / "config.json", path, value)
    refused(folder)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(("size", value) for value in (0, 10**9, True, "x", [], [[32]], {"shortest_edge": 1e9})),
        *(("crop_size", value) for value in (0, 10**9, None, {"height": [32], "width": [32]})),
        *(("resample", value) for value in (99, [3], True, "bicubic")),
        *(("image_mean", value) for value in ([0.5, 0.5], 7, "abc", [1e308] * 3, [10**400] * 3)),
        *(("image_std", value) for value in ([0, 1, 1], [1e-300] * 3, [float("nan")] * 3, None)),
        ("rescale_factor", 10**400),
        (".", []),
    ],
)
def test_settings_of_pictures(folder_of, path, value):
    folder = folder_of(HF)
    edit(folder / "preprocessor_config.json", path, value)
    refused(folder)


@pytest.mark.parametrize("stored", [np.inf, np.nan, -np.inf, 1e4])
def test_a_scale_that_nothing_can_be_computed_with(folder_of, stored):
    folder = folder_of(VIT)
    tensors = {**cases.tensors_of(VIT), "logit_scale": np.float32(stored)}
    write_safetensors(folder / "open_clip_model.safetensors", tensors, "float32")
    cases.refused(folder, "the logit scale is")


def test_positions_are_resized_within_bounds():
    table = np.zeros((1 + 4, 8), np.float32)
    assert resize_positions(table, 16, 1).shape == (1 + 256, 8)
    assert resize_positions(table, 17, 1) is None


REGEX = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
NO_TOKEN = {"type": "TemplateProcessing", "pair": [], "special_tokens": {}}
NO_TOKEN |= {"single": [{"SpecialToken": {"id": "X", "type_id": 0}}]}
TOKENIZERS = {
    "a table cut short": ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "pieces of no letter": ("pre_tokenizer", {"type": "FixedLength", "length": 0}),
    "a template without its token": ("post_processor", NO_TOKEN),
    "an id of 2^32 - 1": ("model.vocab.a", 2**32 - 1),
    "an id beyond the tower's": ("model.vocab.a", 64),
    "an id of 2^40": ("model.vocab.!", 2**40),
    "merges of nothing": ("model.merges", [["x", "y"]]),
    "no vocabulary": ("model.vocab", {}),
    "no model": ("model", None),
    "a model of a name": ("model.type", "x" * 10**5),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_tokenizers_that_panic_or_belong_to_another_model(folder_of, name, capfd):
    folder = folder_of(HF)
    edit(folder / "tokenizer_config.json", "tokenizer_class", "PreTrainedTokenizerFast")
    edit(folder / "tokenizer.json", "model.end_of_word_suffix", None)
    edit(folder / "tokenizer.json", *TOKENIZERS[name])
    refused(folder, "tokenizer")
    assert not capfd.readouterr().err  # Rust writes a panic there, with its backtrace


def test_a_prompt_that_panics(folder_of, capfd):
    folder = folder_of(HF)
    edit(folder / "tokenizer_config.json", "tokenizer_class", "PreTrainedTokenizerFast")
    edit(folder / "tokenizer.json", "pre_tokenizer", REGEX)
    tokenizer = load_tokenizer(folder, 10)
    with pytest.raises(cases.UserError, match=r"cannot take a prompt .*retry-limit"):
        tokenizer(["a" * 60 + "b"])
    with pytest.raises(cases.UserError, match="cannot take a prompt"):
        tokenizer.too_long(["a" * 60 + "b"])
    assert not capfd.readouterr().err


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, SystemExit])
def test_whoever_stops_a_tokenizer_is_heard(tokenizer, stopped):
    def stop(*_, **__):
        raise stopped

    with pytest.raises(stopped):
        type(tokenizer)(63, 10, stop)(["a"])


RIGHT = {"direction": "Right"}
PADDED = {"pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}
LENGTHS = {
    "padding": RIGHT | PADDED | {"strategy": {"Fixed": 10**9}},
    "truncation": RIGHT | {"max_length": 10**9, "strategy": "LongestFirst", "stride": 0},
}


@pytest.mark.parametrize("path", LENGTHS)
def test_lengths_in_a_tokenizer_are_those_of_the_config(folder_of, tokenizer, path):
    folder = folder_of(HF)
    edit(folder / "tokenizer.json", path, LENGTHS[path])
    again = load_tokenizer(folder, 10)
    np.testing.assert_array_equal(again(["a cab"]), tokenizer(["a cab"]))
    assert again.too_long(["a cab", "a" * 60]) == tokenizer.too_long(["a cab", "a" * 60])


SPOILT = [("vocab.json", b"[[["), ("merges.txt", b"\xff\xfe"), ("vocab.json", b'{"a": 1e400}')]


@pytest.mark.parametrize(("name", "content"), SPOILT)
def test_spoilt_words_without_a_tokenizer_json(folder_of, name, content):
    folder = folder_of(HF)
    whole = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(whole["vocab"]))
    (folder / "merges.txt").write_text("#version: 0.2\na b\nc d</w>\n")
    (folder / "tokenizer.json").unlink()
    (folder / name).write_bytes(content)
    try:
        refused(folder, "tokenizer")
    finally:
        (folder / "vocab.json").unlink()
        (folder / "merges.txt").unlink()
