"""SigLIP's towers, out of the blocks that CLIP's are made of.

Zhai et al., Sigmoid Loss for Language Image Pre-Training, ICCV 2023; SigLIP 2 has the same ones
at its fixed resolutions (Tschannen et al., SigLIP 2, 2025).
"""

import jax.numpy as jnp
from flax import nnx

from fsclip_jax.clip.attention import Attention
from fsclip_jax.clip.config import SiglipTextConfig, SiglipVisionConfig
from fsclip_jax.clip.micro_batches import in_pieces, transformer_piece
from fsclip_jax.clip.transformer import activate, layer_norm, make_blocks, run_blocks
from fsclip_jax.clip.vit import cut_patches
from fsclip_jax.typing import Array, Float, Int


class PoolingHead(nnx.Module):
    """A learned query that attends to the patches, and a perceptron added to what it finds.

    Source: Lee et al., Set Transformer, ICML 2019, section 3.2.
    """

    def __init__(self, config: SiglipVisionConfig, *, rngs: nnx.Rngs):
        width = config.width
        initial = nnx.initializers.normal(width**-0.5)
        self.activation = config.activation
        self.probe = nnx.Param(initial(rngs.params(), (width,)))
        self.attention = Attention(width, config.heads, width**-0.5, rngs=rngs)
        self.norm = layer_norm(width, config.norm_eps, rngs=rngs)
        self.fc1 = nnx.Linear(width, config.mlp_width, kernel_init=initial, rngs=rngs)
        self.fc2 = nnx.Linear(config.mlp_width, width, kernel_init=initial, rngs=rngs)

    def __call__(self, x: Float[Array, "batch patches width"]) -> Float[Array, "batch width"]:
        """Pool the patches of each image."""
        probe = jnp.broadcast_to(self.probe[...][None, None], (x.shape[0], 1, x.shape[-1]))
        return self._finish(self.attention(probe.astype(x.dtype), x, None))[:, 0]

    def every_position(
        self, x: Float[Array, "batch patches width"]
    ) -> Float[Array, "batch patches width"]:
        """Give each patch as if the query looked at it alone."""
        return self._finish(self.attention.out_proj(self.attention.v_proj(x)))

    def _finish(self, y: Float[Array, "batch length width"]) -> Float[Array, "batch length width"]:
        return y + self.fc2(activate(self.fc1(self.norm(y)), self.activation))


class SiglipVision(nnx.Module):
    """Patches through residual attention blocks, read by a pooling head.

    Example:
        >>> config = SiglipVisionConfig(36, 16, 24, 2, 3, 48)
        >>> SiglipVision(config, rngs=nnx.Rngs(0))(jnp.zeros((5, 36, 36, 3))).shape
        (5, 24)
    """

    def __init__(self, config: SiglipVisionConfig, *, rngs: nnx.Rngs):
        self.config = config
        width, values = config.width, 3 * config.patch_size**2
        self.patch_embedding = nnx.Linear(
            values, width, kernel_init=nnx.initializers.normal(values**-0.5), rngs=rngs
        )
        normal = nnx.initializers.normal(width**-0.5)
        self.position_embedding = nnx.Param(normal(rngs.params(), (config.grid**2, width)))
        self.blocks = nnx.List(make_blocks(config, causal=False, rngs=rngs))
        self.post_norm = layer_norm(width, config.norm_eps, rngs=rngs)
        self.head = PoolingHead(config, rngs=rngs)

    def __call__(self, pixels: Float[Array, "batch size size 3"]) -> Float[Array, "batch dim"]:
        """Encode normalised images of side ``image_size``; features are not normalised."""
        return in_pieces(lambda x: self.head(self._patches(x)), pixels, self._piece())

    def with_patches(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> tuple[Float[Array, "batch dim"], Float[Array, "batch patches dim"]]:
        """Encode images as a whole and patch by patch, row by row.

        A patch's vector is what the image feature would be if the pooling looked at that patch
        alone.
        """

        def encode(pixels: Array) -> tuple[Array, Array]:
            x = self._patches(pixels)
            return self.head(x), self.head.every_position(x)

        return in_pieces(encode, pixels, self._piece())

    def _piece(self) -> int:
        return transformer_piece(self.config.grid**2, self.config.mlp_width)

    def _patches(
        self, pixels: Float[Array, "batch size size 3"]
    ) -> Float[Array, "batch patches width"]:
        size, patch = self.config.image_size, self.config.patch_size
        if pixels.shape[1:3] != (size, size):
            raise ValueError(f"images are {pixels.shape[1:3]}, the tower takes {(size, size)}")
        whole = self.config.grid * patch
        x = self.patch_embedding(cut_patches(pixels[:, :whole, :whole], patch))
        x = x + self.position_embedding[...][None].astype(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.post_norm(x)


class SiglipText(nnx.Module):
    """Token and position embeddings, blocks, a norm, read at the last position, a projection.

    Attention is not causal and the padding is not masked, so a prompt is only encoded at its
    full length.

    Example:
        >>> config = SiglipTextConfig(32, 4, 16, 2, 2, 32, embed_dim=8)
        >>> SiglipText(config, rngs=nnx.Rngs(0))(jnp.array([[30, 5, 1, 1]])).shape
        (1, 8)
    """

    def __init__(self, config: SiglipTextConfig, *, rngs: nnx.Rngs):
        self.config = config
        width = config.width
        normal = nnx.initializers.normal(width**-0.5)
        self.token_embedding = nnx.Param(normal(rngs.params(), (config.vocab_size, width)))
        self.position_embedding = nnx.Param(normal(rngs.params(), (config.context_length, width)))
        self.blocks = nnx.List(make_blocks(config, causal=False, rngs=rngs))
        self.final_norm = layer_norm(width, config.norm_eps, rngs=rngs)
        self.projection = nnx.Linear(width, config.embed_dim, kernel_init=normal, rngs=rngs)

    def embed(self, ids: Int[Array, "*shape"]) -> Float[Array, "*shape width"]:
        """Look up token embeddings, before positions are added; an id out of range gives NaN."""
        return jnp.take(self.token_embedding[...], ids, axis=0, mode="fill")

    def __call__(
        self,
        ids: Int[Array, "batch length"] | None = None,
        *,
        embeds: Float[Array, "batch length width"] | None = None,
        ends: Int[Array, "batch"] | None = None,
    ) -> Float[Array, "batch dim"]:
        """Encode prompts given as token ids or embeddings, padded to ``context_length``.

        Every prompt is read at its last position, whatever ``ends`` says.

        Raises:
            ValueError: neither ``ids`` nor ``embeds``; or prompts of another length.
        """
        del ends
        if embeds is None:
            if ids is None:
                raise ValueError("give token ids or token embeddings")
            embeds = self.embed(ids)
        if embeds.shape[1] != self.config.context_length:
            raise ValueError(
                f"prompts have {embeds.shape[1]} tokens; SigLIP reads the last of exactly "
                f"{self.config.context_length}"
            )
        x = embeds + self.position_embedding[...][None].astype(embeds.dtype)
        x = run_blocks(self.blocks, x, jnp.full(len(x), x.shape[1] - 1, jnp.int32))
        return self.projection(self.final_norm(x))
