"""OpenAI's release: a config read from the shapes of the weights, which is all there is."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from fsclip_jax.clip.config import Activation, ClipConfig, ResNetConfig, TextConfig, VitConfig
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
_HEAD_WIDTH = 64


def is_open_clip_keys(keys: Iterable[str]) -> bool:
    """Whether weights are named as in OpenAI's release, as open_clip's are too."""
    return {"visual.conv1.weight", "token_embedding.weight", "text_projection"} <= set(keys)


def shapes_config(tensors: Mapping[str, np.ndarray], activation: Activation) -> ClipConfig:
    """Read a config from the shapes of weights that are named as in OpenAI's release.

    The shapes say all but the activation, and the number of heads only where a head has 64
    channels, as in every model of that release.

    Raises:
        UserError: the weights are those of no CLIP.
    """

    def build() -> ClipConfig:
        vocab_size, width = _shape(tensors, "token_embedding.weight")
        embed_dim = _shape(tensors, "text_projection")[1]
        text = TextConfig(
            vocab_size=vocab_size,
            context_length=_shape(tensors, "positional_embedding")[0],
            width=width,
            layers=_depth(tensors, r"transformer\.resblocks\."),
            heads=width // _HEAD_WIDTH,
            mlp_width=_shape(tensors, "transformer.resblocks.0.mlp.c_fc.weight")[0],
            embed_dim=embed_dim,
            activation=activation,
        )
        if "visual.proj" in tensors:
            return ClipConfig(_vit(tensors, embed_dim, activation), text)
        return ClipConfig(_resnet(tensors, embed_dim), text)

    return build_config(build)


def _vit(tensors: Mapping[str, np.ndarray], embed_dim: int, activation: Activation) -> VitConfig:
    width, _, patch_size, _ = _shape(tensors, "visual.conv1.weight")
    return VitConfig(
        image_size=_grid(tensors, "visual.positional_embedding") * patch_size,
        patch_size=patch_size,
        width=width,
        layers=_depth(tensors, r"visual\.transformer\.resblocks\."),
        heads=width // _HEAD_WIDTH,
        mlp_width=_shape(tensors, "visual.transformer.resblocks.0.mlp.c_fc.weight")[0],
        embed_dim=embed_dim,
        activation=activation,
    )


def _resnet(tensors: Mapping[str, np.ndarray], embed_dim: int) -> ResNetConfig:
    width = _shape(tensors, "visual.layer1.0.conv1.weight")[0]
    return ResNetConfig(
        layers=tuple(_depth(tensors, rf"visual\.layer{stage}\.") for stage in (1, 2, 3, 4)),
        width=width,
        image_size=_grid(tensors, "visual.attnpool.positional_embedding") * 32,
        embed_dim=embed_dim,
        heads=width * 32 // _HEAD_WIDTH,
    )


def _shape(tensors: Mapping[str, np.ndarray], key: str) -> tuple[int, ...]:
    if key not in tensors:
        raise UserError(f"the weights are no whole CLIP: there is no {key}")
    return tensors[key].shape


def _depth(tensors: Mapping[str, np.ndarray], prefix: str) -> int:
    """Count the parts that are numbered behind a prefix."""
    return len({match[1] for key in tensors if (match := re.match(rf"{prefix}(\d+)\.", key))})


def _grid(tensors: Mapping[str, np.ndarray], key: str) -> int:
    """Return the patches along a side out of all positions, the class token's among them."""
    positions = _shape(tensors, key)[0]
    grid = round((positions - 1) ** 0.5)
    if grid**2 + 1 != positions:
        raise UserError(f"the image tower has {positions} positions, which are no square")
    return grid
