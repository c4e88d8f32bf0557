import clip_cases as cases
import numpy as np
import pytest
import torch_clips

from fsclip_jax.clip.model import abstract_clip
from fsclip_jax.clip.weights import fill_state, leaf_paths, read_state
from fsclip_jax.clip.weights_maps import IGNORABLE, flax_entry
from fsclip_jax.errors import UserError

NAME = "patch16_quick_largest_id"


def fill(tensors, name=NAME):
    _, abstract = abstract_clip(cases.config_of(name))
    return fill_state(
        abstract, tensors, cases.entries_of(name), ignorable=IGNORABLE, source="a/model.safetensors"
    )


@pytest.mark.parametrize("name", cases.CASES)
def test_loading_then_saving_gives_the_file_back(name):
    _, state = cases.model_of(name)
    tensors, back = cases.tensors_of(name), read_state(state, cases.entries_of(name))
    assert set(back) == set(tensors)
    for key, array in tensors.items():
        assert back[key].shape == array.shape, key
        np.testing.assert_array_equal(back[key], array, err_msg=key)


@pytest.mark.parametrize("name", cases.CASES)
def test_the_map_names_every_key_of_the_pytorch_model(name):
    pytest.importorskip("torch")
    theirs = name in cases.OPEN_CLIP_CASES
    make = torch_clips.open_clip_model if theirs else torch_clips.hf_model
    theirs = {
        key: tuple(value.shape)
        for key, value in make(name).state_dict().items()
        if not key.endswith(IGNORABLE)
    }
    assert theirs == {key: array.shape for key, array in cases.tensors_of(name).items()}


def test_every_bad_key_is_named_in_one_line():
    tensors = cases.tensors_of(NAME)
    del tensors["visual_projection.weight"], tensors["text_model.final_layer_norm.bias"]
    tensors["text_model.embeddings.extra"] = np.zeros(3, np.float32)
    tensors["vision_model.embeddings.class_embedding"] = np.zeros(31, np.float32)
    tensors["text_projection.weight"] = np.zeros((24, 20), np.float32)
    tensors["logit_scale"] = np.array(4, np.int64)
    with pytest.raises(UserError) as caught:
        fill(tensors)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("model.safetensors ")
    for part in (
        "missing: text_model.final_layer_norm.bias, visual_projection.weight",
        "unused: text_model.embeddings.extra",
        "text_projection.weight is [24, 20], wanted [20, 24]",
        "vision_model.embeddings.class_embedding is [31], wanted [30]",
        "not floating point: logit_scale is int64",
    ):
        assert part in line


def test_buffers_are_ignored_and_nothing_else():
    tensors = cases.tensors_of(NAME)
    tensors["text_model.embeddings.position_ids"] = np.arange(10)[None]
    fill(tensors)
    tensors["text_model.embeddings.position_idx"] = np.arange(10)[None]
    with pytest.raises(UserError, match=r"unused: text_model\.embeddings\.position_idx"):
        fill(tensors)


def test_float16_and_float64_files_load_as_float32():
    exact = leaf_paths(fill(cases.tensors_of(NAME)))
    for dtype, tolerance in (("float16", 1e-3), ("float64", 0)):
        tensors = {key: array.astype(dtype) for key, array in cases.tensors_of(NAME).items()}
        for path, leaf in leaf_paths(fill(tensors)).items():
            assert leaf.dtype == np.float32
            np.testing.assert_allclose(leaf, exact[path], rtol=tolerance, atol=tolerance)


def test_flax_files_fill_the_same_state():
    # Built by Flax's conventions, not by the map: kernels transposed, names by their use.
    renamed = {}
    for key, array in cases.tensors_of(NAME).items():
        stem, _, last = key.rpartition(".")
        if last == "weight" and "embedding." in key + "." and array.ndim == 2:
            renamed[f"{stem}.embedding"] = array
        elif last == "weight" and array.ndim == 4:
            renamed[f"{stem}.kernel"] = array.transpose(2, 3, 1, 0)
        elif last == "weight" and array.ndim == 2:
            renamed[f"{stem}.kernel"] = array.T
        elif last == "weight":
            renamed[f"{stem}.scale"] = array
        else:
            renamed[key] = array
    config = cases.config_of(NAME)
    _, abstract = abstract_clip(config)
    ours = leaf_paths(
        fill_state(abstract, renamed, [flax_entry(entry) for entry in cases.entries_of(NAME)])
    )
    for path, leaf in leaf_paths(cases.model_of(NAME)[1]).items():
        np.testing.assert_array_equal(ours[path], leaf, err_msg=path)


def test_both_layouts_hold_the_same_state():
    config = cases.config_of("open_clip_vit")
    _, state = cases.model_of("open_clip_vit")
    tensors = read_state(state, cases.entries_in("hf", config))
    _, abstract = abstract_clip(config)
    through = fill_state(abstract, tensors, cases.entries_in("hf", config))
    back = read_state(through, cases.entries_in("open_clip", config))
    for key, array in cases.tensors_of("open_clip_vit").items():
        np.testing.assert_array_equal(back[key], array, err_msg=key)


def test_a_resnet_has_no_hugging_face_map():
    with pytest.raises(ValueError, match="open_clip layout"):
        cases.entries_in("hf", cases.config_of("open_clip_rn"))
