"""OWL-ViT: every patch of a CLIP image tower proposes one box and one class embedding."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from fsclip_jax.clip.clip_vit import ClipVitConfig
from fsclip_jax.clip.model import Clip, abstract_clip
from fsclip_jax.clip.transformer import layer_norm
from fsclip_jax.clip.vit import VisionTransformer, cut_patches
from fsclip_jax.typing import Array, Float, Params

_EDGE = 1e-4
"""Keeps the logarithms of the box bias finite at the border of the image."""


class Regions(NamedTuple):
    """What is known of every patch of some images."""

    embeds: Float[Array, "batch region dim"]
    """Class embeddings, in the space of the text queries; not normalised."""
    boxes: Float[Array, "batch region 4"]
    """Centre x, centre y, width, height, in parts of the image."""
    shift: Float[Array, "batch region"]
    """Added to a cosine."""
    scale: Float[Array, "batch region"]
    """What the shifted cosine is multiplied by; positive."""


def box_bias(grid: int) -> Float[Array, "region 4"]:
    """Where a box starts from before the box head moves it, as logits.

    The centre is the far corner of the patch and the size that of a patch:
    ``log(v + 1e-4) - log(1 - v + 1e-4)`` for
    ``v = ((i + 1) / n, (j + 1) / n, 1 / n, 1 / n)`` at column ``i`` and row ``j``.

    ``grid`` is ``n``, the patches along one side. There is one row a patch, row by row.

    Example:
        >>> jax.nn.sigmoid(box_bias(2))[0].round(2).tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    places = jnp.arange(1, grid + 1, dtype=jnp.float32) / grid
    rows, columns = jnp.meshgrid(places, places, indexing="ij")
    size = jnp.full((grid * grid,), 1 / grid, jnp.float32)
    values = jnp.stack([columns.reshape(-1), rows.reshape(-1), size, size], axis=-1)
    return jnp.log(values + _EDGE) - jnp.log1p(-values + _EDGE)


class ClassHead(nnx.Module):
    """A class embedding, and a shift and a scale of its cosines, for every patch."""

    def __init__(self, width: int, dim: int, *, rngs: nnx.Rngs):
        self.embed = nnx.Linear(width, dim, rngs=rngs)
        self.shift = nnx.Linear(width, 1, rngs=rngs)
        self.scale = nnx.Linear(width, 1, rngs=rngs)


class BoxHead(nnx.Module):
    """Three layers with the exact GELU between them."""

    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.dense0 = nnx.Linear(width, width, rngs=rngs)
        self.dense1 = nnx.Linear(width, width, rngs=rngs)
        self.dense2 = nnx.Linear(width, 4, rngs=rngs)

    def __call__(self, x: Float[Array, "batch region width"]) -> Float[Array, "batch region 4"]:
        """Return how far every box is from its bias, as logits."""
        x = jax.nn.gelu(self.dense0(x), approximate=False)
        x = jax.nn.gelu(self.dense1(x), approximate=False)
        return self.dense2(x)


class Heads(nnx.Module):
    """What a detector adds to a CLIP: a norm, the class head and the box head."""

    def __init__(self, config: ClipVitConfig, *, rngs: nnx.Rngs):
        width = config.vision.width
        self.norm = layer_norm(width, config.vision.norm_eps, rngs=rngs)
        self.class_head = ClassHead(width, config.embed_dim, rngs=rngs)
        self.box_head = BoxHead(width, rngs=rngs)


class OwlVit(nnx.Module):
    """A CLIP with detection heads on the patches of its image tower.

    Source: Minderer et al., Simple Open-Vocabulary Object Detection with Vision Transformers,
    ECCV 2022, section 3.1.
    """

    def __init__(self, clip: Clip, heads: Heads):
        self.clip = clip
        self.heads = heads


def init_owlvit(config: ClipVitConfig, seed: int) -> tuple[nnx.GraphDef, Params]:
    """Build an OWL-ViT, whose image tower is a ViT, with random weights."""
    rngs = nnx.Rngs(seed)
    return nnx.split(OwlVit(Clip(config, rngs=rngs), Heads(config, rngs=rngs)))


def abstract_owlvit(config: ClipVitConfig) -> tuple[nnx.GraphDef, Params]:
    """Build the graph, and a state of ``jax.ShapeDtypeStruct`` that takes no memory."""
    heads = nnx.eval_shape(lambda: Heads(config, rngs=nnx.Rngs(0)))
    return nnx.split(OwlVit(nnx.merge(*abstract_clip(config)), heads))


def _hidden(
    tower: VisionTransformer, pixels: Float[Array, "batch size size 3"]
) -> Float[Array, "batch length width"]:
    """Normalised output of the last block at every token, the class token first."""
    patches = tower.patch_embedding(cut_patches(pixels, tower.config.patch_size))
    shape = (len(patches), 1, tower.config.width)
    first = jnp.broadcast_to(tower.class_embedding[...][None, None], shape)
    x = jnp.concatenate([first, patches], axis=1) + tower.position_embedding[...][None]
    x = tower.pre_norm(x)
    for block in tower.blocks:
        x = block(x)
    return tower.post_norm(x)


def find_regions(
    graphdef: nnx.GraphDef, state: Params, pixels: Float[Array, "batch size size 3"]
) -> Regions:
    r"""Propose a box and a class embedding at every patch of some images.

    With ``h`` the normalised tokens of the image tower, ``h_0`` the class token::

        z_i = norm(h_0 * h_i)
        e_i = W z_i + b                                embedding
        b_i = sigmoid(MLP(z_i) + bias_i)               box
        shift_i = u . z_i + c,  scale_i = elu(v . z_i + d) + 1

    Args:
        pixels: images after ``Preprocess.normalize``.

    Returns:
        The regions, row by row of the image, float32.

    Example:
        >>> from fsclip_jax.clip.config import ClipConfig, TextConfig, VitConfig
        >>> text = TextConfig(64, 8, 16, 1, 2, 32, embed_dim=16)
        >>> config = ClipConfig(VitConfig(48, 16, 24, 1, 3, 48, embed_dim=16), text)
        >>> find_regions(*init_owlvit(config, 0), jnp.zeros((2, 48, 48, 3))).boxes.shape
        (2, 9, 4)

    Source: Minderer et al., Simple Open-Vocabulary Object Detection with Vision Transformers,
    ECCV 2022, section 3.1; the merged class token is of the published weights.
    """
    model = nnx.merge(graphdef, state)
    tower, heads = model.clip.vision, model.heads
    hidden = _hidden(tower, pixels.astype(tower.projection.kernel.dtype))
    z = heads.norm(hidden[:, 1:] * hidden[:, :1])
    head = heads.class_head
    boxes = heads.box_head(z).astype(jnp.float32) + box_bias(tower.config.grid)[None]
    return Regions(
        head.embed(z).astype(jnp.float32),
        jax.nn.sigmoid(boxes),
        head.shift(z)[..., 0].astype(jnp.float32),
        (jax.nn.elu(head.scale(z))[..., 0] + 1).astype(jnp.float32),
    )


def unit(x: Float[Array, "*batch dim"]) -> Float[Array, "*batch dim"]:
    """Normalise as OWL-ViT does, ``x / (|x| + 1e-6)``."""
    return x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-6)
