"""Batch norms folded into convolutions: the same features, and files that still have norms."""

import clip_cases as cases
import jax.numpy as jnp
import numpy as np
import pytest
import torch_clips
from flax import nnx

from fsclip_jax.clip.config import ClipConfig, ResNetConfig, TextConfig
from fsclip_jax.clip.folding import fold_norms, unfold_norms
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.model import abstract_clip
from fsclip_jax.clip.save import save_clip
from fsclip_jax.clip.weights import leaf_paths

NAME = "open_clip_rn"

# Depths and pooling heads are those of the release; channels are fewer and images smaller.
SIZES = {
    "RN50": ((3, 4, 6, 3), 32),
    "RN101": ((3, 4, 23, 3), 32),
    "RN50x4": ((4, 6, 10, 6), 40),
    "RN50x16": ((6, 8, 18, 8), 48),
    "RN50x64": ((3, 15, 36, 10), 64),
}


def test_folding_keeps_the_features_and_leaves_no_norm():
    graphdef, state = cases.model_of(NAME)
    config, folded_graph, folded = fold_norms(cases.config_of(NAME), graphdef, state)
    assert config.vision.folded
    assert not [path for path in leaf_paths(folded) if ".bn" in path or "downsample_bn" in path]
    before = cases.encode_image(graphdef, state, cases.pixels_of(NAME))
    after = cases.encode_image(folded_graph, folded, cases.pixels_of(NAME))
    assert cases.relative_error(after, before) <= cases.TOLERANCE


def test_folding_twice_is_folding_once_and_a_vit_has_nothing_to_fold():
    once = fold_norms(cases.config_of(NAME), *cases.model_of(NAME))
    twice = fold_norms(*once)
    assert twice[0] == once[0]
    assert twice[2] is once[2]
    vit = cases.config_of("open_clip_vit"), *cases.model_of("open_clip_vit")
    assert fold_norms(*vit)[2] is vit[2]


def test_what_is_unfolded_folds_back():
    config, _, folded = fold_norms(cases.config_of(NAME), *cases.model_of(NAME))
    plain, state = unfold_norms(config, folded)
    assert plain == cases.config_of(NAME)
    again = leaf_paths(fold_norms(plain, cases.model_of(NAME)[0], state)[2])
    for path, leaf in leaf_paths(folded).items():
        np.testing.assert_allclose(again[path], leaf, rtol=1e-6, err_msg=path)


def test_a_loaded_resnet_can_be_saved_again(parts, tmp_path):
    config, state, preprocess, tokenizer = parts(NAME)
    save_clip("open_clip", tmp_path / "a", config, state, preprocess, tokenizer)
    first = load_clip(str(tmp_path / "a"))
    save_clip("open_clip", tmp_path / "b", first.config, first.state, preprocess, tokenizer)
    second = load_clip(str(tmp_path / "b"))
    assert first.config == second.config
    ours, again = (
        cases.encode_image(clip.graphdef, clip.state, cases.pixels_of(NAME))
        for clip in (first, second)
    )
    assert cases.relative_error(again, ours) <= cases.TOLERANCE


def test_a_folded_tower_is_not_trained():
    _, graphdef, state = fold_norms(cases.config_of(NAME), *cases.model_of(NAME))
    with pytest.raises(ValueError, match="folded away"):
        nnx.merge(graphdef, state).vision(jnp.asarray(cases.pixels_of(NAME)), train=True)


def _parity(layers, width, size, heads, dim, images, seed=0):
    """Return our features and open_clip's, of a ResNet with running statistics all its own."""
    torch = pytest.importorskip("torch")
    modified = torch_clips.import_open_clip().modified_resnet
    torch.manual_seed(seed)
    tower = modified.ModifiedResNet(list(layers), dim, heads, size, width).eval()
    with torch.no_grad():
        for module in tower.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.6, 1.2)
                module.bias.normal_(0, 0.2)
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2.0)
        pixels = torch.randn(images, 3, size, size)
        theirs = tower(pixels).numpy()
    text = TextConfig(8, 4, 4, 1, 1, 4, dim)
    config = ClipConfig(ResNetConfig(tuple(layers), width, size, dim, heads), text)
    graphdef, abstract = abstract_clip(config)
    tensors = {f"visual.{key}": np.asarray(x) for key, x in tower.state_dict().items()}
    entries = cases.entries_in("open_clip", config)
    shapes = cases.expected_shapes(leaf_paths(abstract), entries)
    for key in set(shapes) - set(tensors):
        tensors[key] = np.zeros(shapes[key], np.float32)
    state = cases.fill_state(abstract, tensors, entries, ignorable=("num_batches_tracked",))
    _, graphdef, folded = fold_norms(config, graphdef, state)
    # Not jitted: a deep tower compiles for longer than its small maps take, step by step.
    ours = cases.model.encode_image(
        graphdef, folded, jnp.asarray(pixels.permute(0, 2, 3, 1).numpy())
    )
    return np.asarray(ours), theirs


DEEP = ("RN101", "RN50x16", "RN50x64")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEP)) for name in SIZES],
)
def test_every_size_of_the_release_equals_open_clip(name):
    layers, heads = SIZES[name]
    # The last stage is 32 times the width, which the heads must divide.
    ours, theirs = _parity(layers, heads // 8, 64, heads, 12, images=2)
    assert cases.relative_error(ours, theirs) <= 1e-4


@pytest.mark.slow
def test_a_full_size_rn50_equals_open_clip():
    ours, theirs = _parity((3, 4, 6, 3), 64, 224, 32, 1024, images=2)
    assert cases.relative_error(ours, theirs) <= 1e-4
