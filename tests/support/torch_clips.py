"""The same CLIPs in PyTorch: transformers' and open_clip's, with the weights of the cases."""

import sys
import types

import clip_cases as cases
import numpy as np
import pytest


def torch_features(name):
    """Encode the case's pixels and ids with PyTorch: image features, text features."""
    torch = pytest.importorskip("torch")
    pixels = torch.tensor(cases.pixels_of(name)).permute(0, 3, 1, 2)
    ids = torch.tensor(cases.ids_of(name)).long()
    with torch.no_grad():
        if name not in cases.OPEN_CLIP_CASES:
            model = hf_model(name)
            images, texts = model.get_image_features(pixels), model.get_text_features(ids)
            # Newer releases of transformers return an output object.
            images, texts = (getattr(x, "pooler_output", x) for x in (images, texts))
        else:
            model = open_clip_model(name)
            images, texts = model.encode_image(pixels), model.encode_text(ids)
    return np.asarray(images), np.asarray(texts)


def hf_model(name):
    torch = pytest.importorskip("torch")
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    if name in cases.SIGLIP_CASES:
        model = SiglipModel(SiglipConfig.from_dict(cases.SIGLIP_CASES[name]))
    else:
        model = CLIPModel(CLIPConfig.from_dict(cases.HF_CASES[name]))
    _load(torch, model, name)
    return model.eval()


def open_clip_model(name):
    torch = pytest.importorskip("torch")
    model = import_open_clip().model.CLIP(**cases.OPEN_CLIP_CASES[name])
    _load(torch, model, name)
    return model.eval()


def _load(torch, model, name):
    tensors = {key: torch.tensor(array) for key, array in cases.tensors_of(name).items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert all(
        key.endswith(("position_ids", "num_batches_tracked", "attn_mask")) for key in missing
    )


def import_open_clip():
    """Import open_clip, without what it needs only for images' transforms."""
    pytest.importorskip("torch")
    if "open_clip" in sys.modules or "torchvision" in sys.modules:
        return pytest.importorskip("open_clip")
    pytest.importorskip("transformers")  # looks for torchvision once; a stand-in would confuse it
    names = ["torchvision", "torchvision.transforms", "torchvision.transforms.functional"]
    names += ["torchvision.ops", "torchvision.ops.misc"]
    stand_ins = {name: _StandIn(name) for name in names}
    for name, module in stand_ins.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(stand_ins[parent], child, module)
    sys.modules.update(stand_ins)
    try:
        return pytest.importorskip("open_clip")
    finally:
        for name in stand_ins:
            del sys.modules[name]


class _StandIn(types.ModuleType):
    def __getattr__(self, name):
        if name == "__path__":
            return []
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"BICUBIC": "bicubic", "BILINEAR": "bilinear", "NEAREST": "nearest"})
