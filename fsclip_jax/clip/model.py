"""CLIP: two towers and a temperature, and the pure functions that run them."""

from typing import TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.families import family_of
from fsclip_jax.clip.initial import ShapesOnly
from fsclip_jax.typing import Array, Float, Int, Params

Tree = TypeVar("Tree")


class Clip(nnx.Module):
    """An image tower, a text tower and the logarithm of the inverse temperature.

    Source: Radford et al., Learning Transferable Visual Models From Natural Language
    Supervision, ICML 2021.
    """

    def __init__(self, config: ClipConfig, *, rngs: nnx.Rngs):
        family = family_of(config)
        self.vision = family.tower(config.vision, rngs=rngs)
        if family.text is None:
            return
        self.text = family.text.tower(config.text, rngs=rngs)
        self.logit_scale = nnx.Param(jnp.asarray(config.logit_scale_init, jnp.float32))
        if family.logit_bias is not None:  # its loss is a sigmoid, which needs one
            self.logit_bias = nnx.Param(jnp.asarray(family.logit_bias, jnp.float32))


def init_clip(config: ClipConfig, seed: int) -> tuple[nnx.GraphDef, Params]:
    """Build a CLIP with random weights, for training from scratch."""
    return nnx.split(Clip(config, rngs=nnx.Rngs(seed)))


def abstract_clip(config: ClipConfig) -> tuple[nnx.GraphDef, Params]:
    """Build the graph and a state of ``jax.ShapeDtypeStruct``, without memory for the weights."""
    return nnx.split(nnx.eval_shape(lambda: Clip(config, rngs=ShapesOnly())))


def encode_image(
    graphdef: nnx.GraphDef, state: Params, pixels: Float[Array, "batch size size 3"]
) -> Float[Array, "batch dim"]:
    """Encode images, as ``Preprocess.normalize`` gives them, to float32 features of any length.

    Computes in the dtype of the weights (see ``cast_weights``). ``graphdef`` is static: jit
    with ``jax.jit(encode_image, static_argnums=0)``.

    Example:
        >>> from fsclip_jax.clip.config import TextConfig, VitConfig
        >>> text = TextConfig(64, 8, 16, 1, 2, 32, embed_dim=8)
        >>> config = ClipConfig(VitConfig(32, 16, 24, 1, 3, 48, embed_dim=8), text)
        >>> encode_image(*init_clip(config, 0), jnp.zeros((2, 32, 32, 3))).shape
        (2, 8)
    """
    model = nnx.merge(graphdef, state)
    return model.vision(pixels.astype(_dtype(model.vision))).astype(jnp.float32)


def encode_before(
    graphdef: nnx.GraphDef, state: Params, pixels: Float[Array, "batch size size 3"]
) -> Float[Array, "batch before"]:
    """Encode normalised images as far as the last projection of the tower, in float32.

    ``x`` of ``encode_image = x W + b``, see :func:`last_projection`; what a vision transformer's
    class token is after the post layer norm, or what a ResNet's attention has pooled.
    """
    model = nnx.merge(graphdef, state)
    return model.vision.before_projection(pixels.astype(_dtype(model.vision))).astype(jnp.float32)


def last_projection(
    graphdef: nnx.GraphDef, state: Params
) -> tuple[Float[Array, "before dim"], Float[Array, " dim"]] | None:
    """Return ``W`` and ``b`` of the last projection of the image tower; None if it has none.

    Example:
        >>> from fsclip_jax.clip.config import TextConfig, VitConfig
        >>> text = TextConfig(64, 8, 16, 1, 2, 32, embed_dim=8)
        >>> config = ClipConfig(VitConfig(32, 16, 24, 1, 3, 48, embed_dim=8), text)
        >>> model = init_clip(config, 0)
        >>> kernel, bias = last_projection(*model)
        >>> pixels = jnp.ones((2, 32, 32, 3))
        >>> after = encode_before(*model, pixels) @ kernel + bias[None]
        >>> bool(jnp.allclose(after, encode_image(*model, pixels), atol=1e-5))
        True
    """
    last = getattr(nnx.merge(graphdef, state).vision, "last", None)
    if last is None:
        return None
    kernel = last.kernel[...].astype(jnp.float32)
    bias = jnp.zeros(kernel.shape[1]) if last.bias is None else last.bias[...]
    return kernel, bias.astype(jnp.float32)


def encode_patches(
    graphdef: nnx.GraphDef, state: Params, pixels: Float[Array, "batch size size 3"]
) -> tuple[Float[Array, "batch dim"], Float[Array, "batch patches dim"]]:
    """Encode normalised images as a whole and patch by patch, in one pass.

    Both are in the joint space of images and texts. With ``h_i`` the last hidden vector of patch
    ``i`` of a vision transformer, or ``x_i`` a position of a ResNet's last map::

        l_i = W norm(h_i)            the post layer norm and the visual projection
        l_i = W_o W_v (x_i + e_i)    value and output projection of the attention pooling

    the latter with its biases and the position's embedding, so that the image feature is an
    attention-weighted mean of the patches where the pooling has one head. A patch of SigLIP is
    likewise what its pooling head gives for that patch alone. Patches come in the order of rows,
    in float32 and of any length.

    Example:
        >>> from fsclip_jax.clip.config import TextConfig, VitConfig
        >>> text = TextConfig(64, 8, 16, 1, 2, 32, embed_dim=8)
        >>> config = ClipConfig(VitConfig(32, 16, 24, 1, 3, 48, embed_dim=8), text)
        >>> whole, patches = encode_patches(*init_clip(config, 0), jnp.zeros((2, 32, 32, 3)))
        >>> whole.shape, patches.shape
        ((2, 8), (2, 4, 8))

    Source: Zhou et al., Extract Free Dense Labels from CLIP, ECCV 2022, section 3.2 (ResNet);
    there the positions are not added.
    """
    model = nnx.merge(graphdef, state)
    whole, patches = model.vision.with_patches(pixels.astype(_dtype(model.vision)))
    return whole.astype(jnp.float32), patches.astype(jnp.float32)


def encode_text(
    graphdef: nnx.GraphDef,
    state: Params,
    ids: Int[Array, "batch length"] | None = None,
    *,
    embeds: Float[Array, "batch length width"] | None = None,
    ends: Int[Array, "batch"] | None = None,
) -> Float[Array, "batch dim"]:
    """Encode prompts, given as token ids or as token embeddings, to float32 features of any length.

    Embeddings are as ``embed_tokens`` gives them, and come with the position of each prompt's
    end-of-text token.

    Example:
        >>> from fsclip_jax.clip.config import TextConfig, VitConfig
        >>> text = TextConfig(64, 8, 16, 1, 2, 32, embed_dim=8)
        >>> config = ClipConfig(VitConfig(32, 16, 24, 1, 3, 48, embed_dim=8), text)
        >>> graphdef, state = init_clip(config, 0)
        >>> ids = jnp.array([[62, 5, 0, 63, 63]])
        >>> by_ids = encode_text(graphdef, state, ids)
        >>> embeds = embed_tokens(graphdef, state, ids)
        >>> by_embeds = encode_text(graphdef, state, embeds=embeds, ends=jnp.array([3]))
        >>> bool(jnp.allclose(by_ids, by_embeds, atol=1e-6))
        True
    """
    text = nnx.merge(graphdef, state).text
    if embeds is not None:
        embeds = embeds.astype(_dtype(text))
    return text(ids, embeds=embeds, ends=ends).astype(jnp.float32)


def _dtype(tower: nnx.Module) -> jnp.dtype:
    """Return what a tower computes in: the dtype of its weights."""
    dtype: jnp.dtype = jax.tree.leaves(nnx.state(tower, nnx.Param))[0].dtype
    return dtype


def embed_tokens(
    graphdef: nnx.GraphDef, state: Params, ids: Int[Array, "batch length"]
) -> Float[Array, "batch length width"]:
    """Look up token embeddings, positions not added, for methods that learn vectors among them."""
    return nnx.merge(graphdef, state).text.embed(ids)


def cast_weights(state: Tree, dtype: jnp.dtype | type) -> Tree:
    """Cast the weights of the towers, and with them what the towers compute in."""

    def cast(path: tuple, leaf: Array) -> Array:
        return leaf if "logit_" in jax.tree_util.keystr(path) else leaf.astype(dtype)

    return jax.tree_util.tree_map_with_path(cast, state)
