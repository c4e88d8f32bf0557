"""Patch features that lie where the class features lie: the value path of the last block."""

import jax.numpy as jnp
from flax import nnx

from fsclip_jax.clip.model import encode_patches
from fsclip_jax.clip.vit import VisionTransformer
from fsclip_jax.typing import Array, Float, Params


def value_features(
    graphdef: nnx.GraphDef, state: Params, pixels: Float[Array, "batch size size 3"]
) -> Float[Array, "batch patches dim"]:
    """Encode every patch as if the last block's attention looked at that patch alone.

    With ``x_i`` what the last block of a vision transformer gets for patch ``i``::

        z_i = W norm_post(W_o W_v norm_1(x_i))      value and output projection with their biases

    Queries and keys, the shortcut around the attention and the perceptron after it are left out:
    they carry what the class token needs and blur what is where. The image feature is made of such
    values, mixed by the attention, so no training is needed to compare ``z_i`` with text.

    A ResNet's attention pooling is that one block: ``z_i = W_o W_v (x_i + e_i)``. For SigLIP it is
    what the pooling head makes of that patch alone. Both are those of ``encode_patches``.

    Pixels are images after ``Preprocess.normalize``. Patches come in the order of rows, float32 and
    not normalised.

    Example:
        >>> from fsclip_jax.clip.config import ClipConfig, TextConfig, VitConfig
        >>> from fsclip_jax.clip.model import init_clip
        >>> text = TextConfig(64, 8, 16, 1, 2, 32, embed_dim=8)
        >>> config = ClipConfig(VitConfig(32, 16, 24, 2, 3, 48, embed_dim=8), text)
        >>> value_features(*init_clip(config, 0), jnp.zeros((5, 32, 32, 3))).shape
        (5, 4, 8)

    Source: Zhou et al., Extract Free Dense Labels from CLIP, ECCV 2022, section 3.2.
    """
    model = nnx.merge(graphdef, state)
    tower = model.vision
    if not isinstance(tower, VisionTransformer):
        return encode_patches(graphdef, state, pixels)[1]
    x = tower.tokens(pixels.astype(model.text.projection.kernel.dtype))
    for block in tower.blocks[:-1]:
        x = block(x)
    last = tower.blocks[-1]
    x = last.attention.out_proj(last.attention.v_proj(last.norm1(x[:, 1:])))
    return tower.projection(tower.post_norm(x)).astype(jnp.float32)
