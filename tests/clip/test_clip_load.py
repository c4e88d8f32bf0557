import json
import os
import pickle

import clip_cases as cases
import numpy as np
import pytest
import torch_clips
from torch_archives import write_zip

from fsclip_jax.clip.files import sha256_of
from fsclip_jax.clip.folding import fold_norms
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.save import save_clip
from fsclip_jax.clip.weights import leaf_paths
from fsclip_jax.clip.weights_maps import flax_entry

HF = "patch16_quick_largest_id"


@pytest.fixture
def hf_folder(parts, tmp_path):
    save_clip("hf", tmp_path / "model", *parts(HF))
    return tmp_path / "model"


def same_state(ours, theirs, **tolerance):
    theirs = leaf_paths(theirs)
    for path, leaf in leaf_paths(ours).items():
        assert leaf.dtype == np.float32
        assert leaf.shape == theirs[path].shape
        np.testing.assert_allclose(leaf, theirs[path], err_msg=path, **tolerance)


@pytest.mark.parametrize("name", [HF, "open_clip_vit", "open_clip_rn"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_saved_model_loads_equal(name, dtype, parts, tmp_path):
    config, state, preprocess, tokenizer = parts(name)
    layout = "hf" if name in cases.HF_CASES else "open_clip"
    save_clip(layout, tmp_path, config, state, preprocess, tokenizer, dtype=dtype)
    clip = load_clip(str(tmp_path))
    config, _, state = fold_norms(config, cases.model_of(name)[0], state)
    assert clip.config == config
    assert (clip.embed_dim, clip.image_size, clip.context_length) == (
        config.embed_dim,
        config.vision.image_size,
        10,
    )
    assert clip.id == str(tmp_path)
    assert clip.logit_scale == pytest.approx(np.exp(3.5), rel=1e-6)
    rounding = 0 if dtype == "float32" else 2e-3
    same_state(clip.state, state, rtol=rounding, atol=rounding)
    np.testing.assert_array_equal(clip.tokenizer(["a ! ab"]), tokenizer(["a ! ab"]))
    weights = next(tmp_path.glob("*.safetensors"))
    assert clip.sha256 == sha256_of([weights])


def test_what_we_save_loads_in_transformers_and_is_equal(hf_folder):
    torch = pytest.importorskip("torch")
    from transformers import AutoTokenizer, CLIPModel

    model, info = CLIPModel.from_pretrained(hf_folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    state = model.state_dict()
    for key, array in cases.tensors_of(HF).items():
        np.testing.assert_array_equal(state[key].numpy(), array, err_msg=key)
    clip = load_clip(str(hf_folder))
    with torch.no_grad():
        theirs = model.get_text_features(torch.tensor(cases.ids_of(HF)).long())
    theirs = np.asarray(getattr(theirs, "pooler_output", theirs))
    ours = cases.encode_text(clip.graphdef, clip.state, cases.ids_of(HF))
    assert cases.relative_error(ours, theirs) <= cases.TOLERANCE
    ids = AutoTokenizer.from_pretrained(hf_folder)(["a ! ab"])["input_ids"]
    assert ids[0] == clip.tokenizer(["a ! ab"])[0, : len(ids[0])].tolist()


def test_what_transformers_saves_loads_here(tokenizer, tmp_path):
    pytest.importorskip("torch")
    torch_clips.hf_model(HF).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    tokenizer.save(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"size": 32}')
    clip = load_clip(str(tmp_path))
    same_state(clip.state, cases.model_of(HF)[1], rtol=0)
    assert clip.preprocess.size == 32


@pytest.mark.parametrize("name", ["open_clip_vit", "open_clip_rn"])
def test_what_we_save_loads_in_open_clip(name, parts, tmp_path):
    open_clip = torch_clips.import_open_clip()
    from safetensors.torch import load_file

    save_clip("open_clip", tmp_path, *parts(name))
    values = json.loads((tmp_path / "open_clip_config.json").read_text())
    model = open_clip.model.CLIP(**values["model_cfg"])
    missing, unexpected = model.load_state_dict(
        load_file(tmp_path / "open_clip_model.safetensors"), strict=False
    )
    assert not unexpected
    assert all(key.endswith(("num_batches_tracked", "attn_mask")) for key in missing)


def test_shards_and_a_flax_file_load_equal(hf_folder):
    from flax.serialization import msgpack_serialize
    from safetensors.numpy import load_file, save_file

    exact = load_clip(str(hf_folder))
    tensors = load_file(hf_folder / "model.safetensors")
    (hf_folder / "model.safetensors").unlink()

    keys = sorted(tensors)
    names = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(keys)}
    for name in set(names.values()):
        save_file({key: tensors[key] for key in keys if names[key] == name}, hf_folder / name)
    index = hf_folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}))
    sharded = load_clip(str(hf_folder))
    same_state(sharded.state, exact.state, rtol=0)
    assert sharded.sha256 != exact.sha256
    (hf_folder / "model-00002-of-00002.safetensors").unlink()
    cases.refused(hf_folder, "model-00002-of-00002.safetensors")
    index.write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    cases.refused(hf_folder, "not beside it")
    index.unlink()

    entries = map(flax_entry, cases.entries_in("hf", exact.config))
    keys_in_flax = {entry.path: entry.key for entry in entries}
    tree: dict = {}
    for path, leaf in leaf_paths(exact.state).items():
        key = keys_in_flax[path]
        array = np.asarray(leaf)
        if key.endswith("patch_embedding.kernel"):
            array = array.reshape(16, 16, 3, -1)
        *inner, last = key.split(".")
        node = tree
        for part in inner:
            node = node.setdefault(part, {})
        node[last] = array
    (hf_folder / "flax_model.msgpack").write_bytes(msgpack_serialize(tree))
    same_state(load_clip(str(hf_folder)).state, exact.state, rtol=0)
    (hf_folder / "flax_model.msgpack").write_bytes(b"\x93")
    cases.refused(hf_folder, "flax_model.msgpack is truncated or broken")


class _Trap:
    def __reduce__(self):
        return (exec, ("import builtins; builtins.fsclip_pickle_was_opened = True",))


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "model.pth", "model.PKL"])
def test_a_pickle_is_never_run(name, hf_folder, tmp_path):
    import builtins

    trap = pickle.dumps(_Trap(), 2)
    (tmp_path / name).write_bytes(trap)
    wanted = "ends in '.PKL'" if name == "model.PKL" else "no zip archive"
    cases.refused(tmp_path / name, name, wanted, "safetensors")
    if name == "model.PKL":
        return
    # A pickle in the zip that PyTorch writes around it.
    write_zip(tmp_path / name, trap)
    cases.refused(tmp_path / name, "it asks for")
    # Nor under a name that lies.
    (hf_folder / "model.safetensors").write_bytes(trap)
    cases.refused(hf_folder, "model.safetensors is truncated or broken")
    # Nor in the place of a model's weights.
    (hf_folder / "model.safetensors").unlink()
    write_zip(hf_folder / "pytorch_model.bin", trap)
    cases.refused(hf_folder, "pytorch_model.bin is refused: it asks for")
    assert not hasattr(builtins, "fsclip_pickle_was_opened")


def test_unknown_specs_say_what_is_accepted(tmp_path):
    cases.refused("minni", "did you mean mini?", "Hugging Face id")
    cases.refused(tmp_path / "absent", "no backbone", "folder")
    cases.refused(tmp_path / "absent.pt", "no backbone", "weights file")
    cases.refused("RN50", "that model is called timm/resnet50_clip.openai")
    cases.refused("ViT-B/32", "that model is called openai/clip-vit-base-patch32")
    cases.refused("openai/clip-vit@", "no backbone")
    (tmp_path / "empty").mkdir()
    cases.refused(tmp_path / "empty", "holds no CLIP", "model.safetensors", "open_clip_config.json")
    (tmp_path / "notes.txt").write_text("hello")
    cases.refused(tmp_path / "notes.txt", "ends in '.txt'", ".safetensors")


def test_a_folder_with_half_its_files_says_what_is_missing(hf_folder, parts, tmp_path):
    for name, said in {
        "tokenizer.json": "has no tokenizer",
        "model.safetensors": "has config.json but no weights; wanted is model.safetensors",
        "config.json": "put the model's config.json",
    }.items():
        kept = (hf_folder / name).read_bytes()
        for path in hf_folder.iterdir() if name == "tokenizer.json" else [hf_folder / name]:
            if path.name == name or path.name in ("vocab.json", "merges.txt"):
                path.unlink()
        cases.refused(hf_folder, said)
        (hf_folder / name).write_bytes(kept)
    load_clip(str(hf_folder))
    save_clip("open_clip", tmp_path / "open", *parts("open_clip_vit"))
    (tmp_path / "open" / "open_clip_model.safetensors").unlink()
    cases.refused(tmp_path / "open", "has open_clip_config.json but no weights")


def test_configs_of_other_models_are_told_apart(hf_folder):
    path = hf_folder / "config.json"
    values = json.loads(path.read_text())
    for kind in ("vit", "dinov3_vit"):
        path.write_text(json.dumps(values | {"model_type": kind}))
        cases.refused(hf_folder, f"describes a {kind!r} model", "bank import")
    path.write_text(json.dumps(values | {"model_type": "bert"}))
    cases.refused(hf_folder, "describes a 'bert' model", "'clip', 'siglip', ")
    path.write_text(json.dumps({"architecture": "resnet50", "num_classes": 1000}))
    cases.refused(hf_folder, "config.json describes no CLIP")
    path.write_text(json.dumps(values | {"model_type": "siglip2"}))
    cases.refused(hf_folder, "NaFlex", "google/siglip2-base-patch16-224")
    # The weights of one architecture under the config of another: named, but not all of them.
    other = {"text_config": {"eos_token_id": 2}, "vision_config": {"image_size": 32}}
    path.write_text(json.dumps(other | {"model_type": "clip"}))
    line = cases.refused(hf_folder, "does not hold the weights that its config describes", "more")
    assert len(line) < 3000


def test_unknown_fields_change_nothing_as_in_transformers(hf_folder):
    path = hf_folder / "config.json"
    values = json.loads(path.read_text())
    values |= {"flavour": "vanilla", "torch_dtype": "float16", "transformers_version": None}
    values["text_config"]["top_k"] = 50
    path.write_text(json.dumps(values))
    assert load_clip(str(hf_folder)).config == cases.config_of(HF)


def test_open_clip_refuses_fields_that_it_does_not_know(parts, tmp_path):
    save_clip("open_clip", tmp_path, *parts("open_clip_vit"))
    path = tmp_path / "open_clip_config.json"
    values = json.loads(path.read_text())
    values["model_cfg"]["vision_cfg"]["swirl"] = 2
    values["model_cfg"]["flavour"] = "vanilla"
    path.write_text(json.dumps(values))
    cases.refused(tmp_path, "vision_cfg.swirl=2", "flavour='vanilla'")


def test_timms_own_config_beside_open_clips_is_passed_by(parts, tmp_path):
    save_clip("open_clip", tmp_path, *parts("open_clip_rn"))
    (tmp_path / "config.json").write_text('{"architecture": "resnet50_clip", "num_features": 64}')
    (tmp_path / "model.safetensors").write_bytes(b"the image tower alone, in timm's layout")
    assert load_clip(str(tmp_path)).config.embed_dim == 12


def test_a_truncated_file_is_named(hf_folder):
    path = hf_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    cases.refused(hf_folder, "model.safetensors is truncated or broken", "download it again")


def test_files_of_different_models_are_refused(hf_folder):
    path = hf_folder / "config.json"
    values = json.loads(path.read_text())
    values["text_config"]["hidden_size"] = 27
    path.write_text(json.dumps(values))
    cases.refused(hf_folder, "text_projection.weight is [20, 24], wanted [20, 27]")
    values["vision_config"]["image_size"] = 48
    path.write_text(json.dumps(values))
    cases.refused(hf_folder, "crops to 32 pixels", "takes 48")
    path.write_text("{")
    cases.refused(hf_folder, "config.json is no JSON")


def test_missing_settings_of_images_are_named(hf_folder):
    path = hf_folder / "preprocessor_config.json"
    values = path.read_text()
    path.unlink()
    cases.refused(hf_folder, "no preprocessor_config.json")
    # What transformers 5 saves instead.
    (hf_folder / "processor_config.json").write_text('{"image_processor": ' + values + "}")
    assert load_clip(str(hf_folder)).preprocess.size == 32


def test_a_weight_too_large_for_float16_is_named(parts, tmp_path):
    config, state, preprocess, _ = parts(HF)
    leaf_paths(state)  # the state itself stays as it is: the leaf is replaced in a copy
    import jax

    large = jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 1e5 if "class_embedding" in str(path) else leaf, state
    )
    with pytest.raises(ValueError, match=r"float16: vision_model\.embeddings\.class_embedding"):
        save_clip("hf", tmp_path, config, large, preprocess, dtype="float16")


def test_the_bundled_model_loads():
    clip = load_clip("mini")
    assert clip.id == "mini"
    row = clip.tokenizer(["a photo of an apple!"])[0]
    assert row.max() == clip.tokenizer.eos_id
    text = cases.encode_text(clip.graphdef, clip.state, row[None])
    assert np.isfinite(text).all()


@pytest.mark.parametrize("ending", [".safetensors", ".pt", ""])
def test_a_pipe_is_named_and_never_opened(ending, tmp_path):
    pipe = tmp_path / f"model{ending}"
    os.mkfifo(pipe)
    cases.refused(pipe, "is a pipe, a socket or a device")
