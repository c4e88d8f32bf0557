"""OpenAI's release: a config read from the shapes of the weights, which is all there is."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from fsclip_jax.clip.config_fields import build_config
from fsclip_jax.errors import UserError

MARKS = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives keep beside the weights, and nobody else's do."""
SUMS = {
    "RN50": "afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762",
    "RN101": "8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599",
    "RN50x4": "7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd",
    "RN50x16": "52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa",
    "RN50x64": "be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c",
    "ViT-B-32": "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    "ViT-B-16": "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
    "ViT-L-14": "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    "ViT-L-14-336px": "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
}
"""SHA-256 of the archives that OpenAI published; each is a part of its download address too."""


def is_open_clip_keys(keys: Iterable[str]) -> bool:
    """Whether weights are named as in OpenAI's release, as open_clip's are too."""
    return {"visual.conv1.weight", "token_embedding.weight", "text_projection"} <= set(keys)


def shapes_values(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Read a ``model_cfg`` of open_clip from the shapes of weights named as in OpenAI's release.

    They say all but the activation, and the number of heads only where a head has 64 channels; both
    are taken to be as in that release.

    Raises:
        UserError: the weights are those of no CLIP.
    """

    def build() -> dict[str, Any]:
        vocab_size, width = _shape(tensors, "token_embedding.weight")
        text = {
            "vocab_size": vocab_size,
            "context_length": _shape(tensors, "positional_embedding")[0],
            "heads": width // 64,
            **_blocks(tensors, "transformer.resblocks", width),
        }
        vision = (_vit if "visual.proj" in tensors else _resnet)(tensors)
        dim = _shape(tensors, "text_projection")[1]
        return {"embed_dim": dim, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}

    return build_config(build)


def _vit(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    width, _, patch_size, _ = _shape(tensors, "visual.conv1.weight")
    return {
        "image_size": _grid(tensors, "visual.positional_embedding") * patch_size,
        "patch_size": patch_size,
        **_blocks(tensors, "visual.transformer.resblocks", width),
    }


def _resnet(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    return {
        "image_size": _grid(tensors, "visual.attnpool.positional_embedding") * 32,
        "width": _shape(tensors, "visual.layer1.0.conv1.weight")[0],
        "layers": [_depth(tensors, f"visual.layer{stage}") for stage in (1, 2, 3, 4)],
    }


def _blocks(tensors: Mapping[str, np.ndarray], key: str, width: int) -> dict[str, Any]:
    ratio = _shape(tensors, f"{key}.0.mlp.c_fc.weight")[0] / width
    return {"width": width, "layers": _depth(tensors, key), "mlp_ratio": ratio}


def _shape(tensors: Mapping[str, np.ndarray], key: str) -> tuple[int, ...]:
    if key not in tensors:
        raise UserError(f"the weights are no whole CLIP: there is no {key}")
    return tensors[key].shape


def _depth(tensors: Mapping[str, np.ndarray], prefix: str) -> int:
    """Count the parts that are numbered behind a prefix."""
    behind = (key.removeprefix(f"{prefix}.") for key in tensors if key.startswith(f"{prefix}."))
    return len({key.partition(".")[0] for key in behind})


def _grid(tensors: Mapping[str, np.ndarray], key: str) -> int:
    """Return the patches along a side out of all positions, the class token's among them."""
    positions = _shape(tensors, key)[0]
    grid = round((positions - 1) ** 0.5)
    if grid**2 + 1 != positions:
        raise UserError(f"the image tower has {positions} positions, which are no square")
    return grid
