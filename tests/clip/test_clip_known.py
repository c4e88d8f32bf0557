"""The table of published models: counted, and compared with open_clip's own configs."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch_clips

from fsclip_jax.clip.families import read_config
from fsclip_jax.clip.layout_openai import SUMS
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.model import abstract_clip
from fsclip_jax.clip.published import KNOWN, SOURCES, known_as
from fsclip_jax.clip.weights import leaf_paths
from fsclip_jax.errors import UserError
from fsclip_jax.hub import parse_id

QUICK = ("mini", "timm/resnet50_clip.openai", "openai/clip-vit-base-patch32")
QUICK += ("wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M", "google/siglip-base-patch16-224")


def parameters(config):
    _, abstract = abstract_clip(config)
    return sum(
        math.prod(leaf.shape)
        for path, leaf in leaf_paths(abstract).items()
        if not path.endswith((".mean", ".var"))  # statistics of batch norms are no parameters
    )


@pytest.mark.parametrize("model", [m for m in KNOWN if m.id in QUICK], ids=lambda m: m.id)
def test_parameters_are_counted(model):
    assert parameters(model.config) == model.parameters


def parameters_by_depth(config):
    """As ``parameters``, from towers of one and two layers: one layer is like the next."""

    def of_depth(layers):
        changed = {
            name: dataclasses.replace(getattr(config, name), layers=count)
            for name, count in layers.items()
        }
        return parameters(dataclasses.replace(config, **changed))

    deep = {name: getattr(getattr(config, name), "layers", ()) for name in ("text", "vision")}
    deep = {name: layers for name, layers in deep.items() if isinstance(layers, int)}
    least = of_depth(dict.fromkeys(deep, 1))
    more = {name: of_depth(dict.fromkeys(deep, 1) | {name: 2}) - least for name in deep}
    return least + sum((deep[name] - 1) * each for name, each in more.items())


def test_all_parameters_are_counted():
    counted = {config: parameters_by_depth(config) for config in {m.config for m in KNOWN}}
    assert {m.id: counted[m.config] for m in KNOWN} == {m.id: m.parameters for m in KNOWN}


def test_the_table_is_whole():
    assert len({model.id for model in KNOWN}) == len(KNOWN)
    for model in KNOWN:
        assert model.id == "mini" or parse_id(model.id)
        assert (model.top1 is None) == (not model.source)
        assert model.top1 is None or 0 < model.top1 < 100
        assert model.source in ("", *SOURCES)
        assert model.licence


def test_the_bundled_model_is_the_one_in_the_table():
    config = load_clip("mini").config
    assert dataclasses.replace(config, vision=dataclasses.replace(config.vision, folded=False)) == (
        KNOWN[0].config
    )


def test_every_release_of_openai_has_its_name():
    names = {name.lower() for name in SUMS}
    listed = {model.name.lower().replace("/", "-").replace("@", "-") for model in KNOWN}
    assert names == listed - {""}
    assert known_as("ViT-B-16") == "openai/clip-vit-base-patch16"
    assert known_as("ViT-Q/7") is None


OPEN_CLIP_NAMES = {
    "RN50-quickgelu": "timm/resnet50_clip.openai",
    "RN101-quickgelu": "timm/resnet101_clip.openai",
    "RN50x4-quickgelu": "timm/resnet50x4_clip.openai",
    "RN50x16-quickgelu": "timm/resnet50x16_clip.openai",
    "RN50x64-quickgelu": "timm/resnet50x64_clip.openai",
    "ViT-B-32-quickgelu": "openai/clip-vit-base-patch32",
    "ViT-B-16-quickgelu": "facebook/metaclip-b16-400m",
    "ViT-L-14-336-quickgelu": "openai/clip-vit-large-patch14-336",
    "ViT-H-14-quickgelu": "apple/DFN5B-CLIP-ViT-H-14",
    "ViT-H-14-378-quickgelu": "apple/DFN5B-CLIP-ViT-H-14-378",
    "ViT-B-32": "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
    "ViT-L-14": "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
    "ViT-H-14": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    "ViT-g-14": "laion/CLIP-ViT-g-14-laion2B-s12B-b42K",
    "ViT-bigG-14": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
}


def open_clip_files():
    folder = Path(torch_clips.import_open_clip().__file__).parent / "model_configs"
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def test_shapes_are_those_of_open_clip():
    files, known = open_clip_files(), {model.id: model.config for model in KNOWN}
    for name, spec in OPEN_CLIP_NAMES.items():
        assert read_config("open_clip", files[name]) == known[spec], name


def refusal(values):
    try:
        read_config("open_clip", values)
    except UserError as error:
        return str(error)
    return None


def test_every_config_of_open_clip_is_read_or_refused_in_a_line():
    said = {name: refusal(values) for name, values in open_clip_files().items()}
    read = {name for name, line in said.items() if line is None}
    assert {"ViT-B-32", "RN50", "ViT-B-16-plus-240", "ViT-L-16-320"} <= read
    assert not [name for name in read if "SigLIP" in name or "coca" in name or "convnext" in name]
    for name in set(said) - read:
        # It names the option by which the model is no plain CLIP.
        assert "\n" not in said[name]
        assert "_cfg." in said[name] or "custom_text" in said[name], name


def test_the_siglips_of_open_clip_are_sent_to_the_layout_that_loads():
    with pytest.raises(UserError, match="google/siglip-base-patch16-224"):
        read_config("open_clip", open_clip_files()["ViT-B-16-SigLIP"])
