"""The towers against PyTorch's: golden arrays everywhere, live wherever torch imports."""

import clip_cases as cases
import jax.numpy as jnp
import numpy as np
import pytest
import torch_clips

from fsclip_jax.clip.families import read_config
from fsclip_jax.clip.model import abstract_clip
from fsclip_jax.clip.weights import fill_state
from fsclip_jax.clip.weights_maps import IGNORABLE


@pytest.fixture(scope="module", params=cases.CASES)
def features(request):
    name = request.param
    graphdef, state = cases.model_of(name)
    images = cases.encode_image(graphdef, state, cases.pixels_of(name))
    texts = cases.encode_text(graphdef, state, cases.ids_of(name))
    return name, images, texts


def test_towers_equal_the_golden_arrays(features):
    name, images, texts = features
    with np.load(cases.GOLDEN / f"clip_{name}.npz", allow_pickle=False) as golden:
        assert cases.relative_error(images, golden["images"]) <= cases.TOLERANCE
        assert cases.relative_error(texts, golden["texts"]) <= cases.TOLERANCE


def test_towers_equal_pytorch(features):
    name, images, texts = features
    their_images, their_texts = torch_clips.torch_features(name)
    assert cases.relative_error(images, their_images) <= cases.TOLERANCE
    assert cases.relative_error(texts, their_texts) <= cases.TOLERANCE


def test_the_cases_tell_the_end_of_text_conventions_apart():
    ids = cases.ids_of("patch14_gelu_own_eos")
    assert (ids.argmax(-1) != (ids == 62).argmax(-1)).any()


@pytest.mark.slow
def test_a_full_size_vit_b32_equals_pytorch():
    torch = pytest.importorskip("torch")
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig()).eval()
    config = read_config("hf", CLIPConfig().to_dict())
    assert (config.vision.width, config.vision.patch_size, config.text.layers) == (768, 32, 12)
    tensors = {key: value.detach().numpy() for key, value in model.state_dict().items()}
    graphdef, abstract = abstract_clip(config)
    state = fill_state(abstract, tensors, cases.entries_in("hf", config), ignorable=IGNORABLE)
    pixels = np.random.RandomState(0).standard_normal((2, 224, 224, 3)).astype(np.float32)
    ids = np.full((2, 77), 49407, np.int32)
    ids[:, :5] = [[49406, 320, 0, 1125, 539], [49406, 49407, 0, 0, 0]]
    with torch.no_grad():
        images = model.get_image_features(torch.tensor(pixels).permute(0, 3, 1, 2))
        texts = model.get_text_features(torch.tensor(ids).long())
    images, texts = (np.asarray(getattr(x, "pooler_output", x)) for x in (images, texts))
    ours = cases.encode_image(graphdef, state, jnp.asarray(pixels))
    assert cases.relative_error(ours, images) <= cases.TOLERANCE
    ours = cases.encode_text(graphdef, state, jnp.asarray(ids))
    assert cases.relative_error(ours, texts) <= cases.TOLERANCE
