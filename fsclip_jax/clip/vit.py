"""CLIP's vision transformer."""

import jax.numpy as jnp
from flax import nnx

from fsclip_jax.clip.attention import embedding, linear, vector
from fsclip_jax.clip.config import VitConfig
from fsclip_jax.clip.micro_batches import in_pieces, require_size, transformer_piece
from fsclip_jax.clip.transformer import layer_norm, make_blocks, run_blocks
from fsclip_jax.typing import Array, Float


def cut_patches(
    pixels: Float[Array, "batch height width 3"], size: int
) -> Float[Array, "batch patches values"]:
    """Cut images into square patches, row by row, and lay each one's pixels in a row.

    Example:
        >>> cut_patches(jnp.zeros((1, 64, 64, 3)), 32).shape
        (1, 4, 3072)
    """
    batch, height, width, channels = pixels.shape
    x = pixels.reshape(batch, height // size, size, width // size, size, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, size * size * channels)


class VisionTransformer(nnx.Module):
    """Patches and a class token through residual attention blocks, read at the class token.

    Example:
        >>> config = VitConfig(32, 16, 24, 2, 3, 48, embed_dim=8)
        >>> VisionTransformer(config, rngs=nnx.Rngs(0))(jnp.zeros((5, 32, 32, 3))).shape
        (5, 8)

    Source: Radford et al., Learning Transferable Visual Models From Natural Language
    Supervision, ICML 2021, section 2.4.
    """

    def __init__(self, config: VitConfig, *, rngs: nnx.Rngs):
        self.config = config
        width, values = config.width, 3 * config.patch_size**2
        std = width**-0.5
        self.patch_embedding = linear(values, width, values**-0.5, bias=False, rngs=rngs)
        self.class_embedding = vector(width, std, rngs=rngs)
        self.position_embedding = embedding(config.grid**2 + 1, width, std, rngs=rngs)
        self.pre_norm = layer_norm(width, config.norm_eps, rngs=rngs)
        self.blocks = nnx.List(make_blocks(config, causal=False, rngs=rngs))
        self.post_norm = layer_norm(width, config.norm_eps, rngs=rngs)
        if config.projected:
            self.projection = linear(width, config.embed_dim, std, bias=False, rngs=rngs)

    def __call__(self, pixels: Float[Array, "batch size size 3"]) -> Float[Array, "batch dim"]:
        """Encode normalised images of side ``image_size``; features are not normalised."""
        return in_pieces(lambda x: self._project(self._pool(x)), pixels, self._piece())

    def before_projection(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch width"]:
        """Encode images as far as the last projection, :attr:`last`."""
        return in_pieces(lambda x: self.post_norm(self._pool(x)), pixels, self._piece())

    @property
    def last(self) -> nnx.Linear | None:
        """The projection of the image feature to the joint space; None where there is none."""
        return self.projection if self.config.projected else None

    def _pool(self, pixels: Float[Array, "batch size size 3"]) -> Float[Array, "batch width"]:
        x = self.tokens(pixels)
        return run_blocks(self.blocks, x, jnp.zeros(x.shape[0], jnp.int32))

    def with_patches(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> tuple[Float[Array, "batch dim"], Float[Array, "batch patches dim"]]:
        """Encode images as a whole and patch by patch, ``W norm(h_i)`` at every position.

        ``h`` is what the last block gives out; position 0 is the class token, whose vector is
        the image feature. Patches come row by row.
        """

        def encode(pixels: Array) -> tuple[Array, Array]:
            x = self.tokens(pixels)
            for block in self.blocks:
                x = block(x)
            x = self._project(x)
            return x[:, 0], x[:, 1:]

        return in_pieces(encode, pixels, self._piece())

    def _project(self, x: Float[Array, "*shape width"]) -> Float[Array, "*shape dim"]:
        x = self.post_norm(x)
        return self.projection(x) if self.config.projected else x

    def _piece(self) -> int:
        return transformer_piece(self.config.grid**2 + 1, self.config.mlp_width)

    def tokens(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch length width"]:
        """Embed the class token and the patches with their positions, as the blocks take them."""
        require_size(pixels, self.config.image_size)
        patches = self.patch_embedding(cut_patches(pixels, self.config.patch_size))
        first = jnp.broadcast_to(
            self.class_embedding[...][None, None], (patches.shape[0], 1, self.config.width)
        )
        x = jnp.concatenate([first, patches], axis=1) + self.position_embedding[...][None]
        return self.pre_norm(x)
