"""Shapes of the CLIP family: everything static that builds a tower."""

from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

Activation: TypeAlias = Literal["quick_gelu", "gelu", "gelu_tanh"]


@dataclass(frozen=True)
class VitConfig:
    """A vision transformer with a class token and a norm before its first block.

    Example:
        >>> VitConfig(224, 32, 768, 12, 12, 3072, 512).grid
        7
    """

    image_size: int
    """Side of the square input, in pixels."""
    patch_size: int
    """Side of a patch, in pixels; it divides the image into whole patches."""
    width: int
    """Channels of the residual stream."""
    layers: int
    """Residual attention blocks."""
    heads: int
    """Attention heads; they divide the width."""
    mlp_width: int
    """Hidden channels of a block's multi-layer perceptron."""
    embed_dim: int
    """Width of the joint embedding."""
    activation: Activation = "quick_gelu"
    """``x sigmoid(1.702 x)`` (OpenAI's weights), the exact GELU, or its tanh approximation."""
    norm_eps: float = 1e-5
    """Added to the variance in every layer norm."""
    projected: bool = True
    """False for an image tower without a projection, whose ``embed_dim`` is its width."""

    def __post_init__(self) -> None:
        check_heads("vision", self.width, self.heads)
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}"
            )

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class ResNetConfig:
    """OpenAI's modified ResNet: three-layer stem, anti-aliased strides, attention pooling.

    Example:
        >>> ResNetConfig((3, 4, 6, 3), 64, 224, 1024, 32).feature_width
        2048
    """

    layers: tuple[int, ...]
    """Bottleneck blocks of each of the four stages."""
    width: int
    """Channels of the first stage before its expansion by four."""
    image_size: int
    """Side of the square input, in pixels; a multiple of 32."""
    embed_dim: int
    """Width of the joint embedding."""
    heads: int
    """Heads of the attention pooling; they divide ``feature_width``."""
    folded: bool = False
    """The batch norms are part of the convolutions, as in every backbone that is loaded."""

    def __post_init__(self) -> None:
        check_heads("vision", self.feature_width, self.heads)
        if len(self.layers) != 4:
            raise ValueError(f"a modified ResNet has 4 stages, not {len(self.layers)}")
        if self.image_size % 32:
            raise ValueError(f"image_size {self.image_size} is no multiple of 32")

    @property
    def feature_width(self) -> int:
        """Channels of the last stage, which the attention pooling reads."""
        return self.width * 32

    @property
    def grid(self) -> int:
        """Positions along one side of the last stage."""
        return self.image_size // 32


@dataclass(frozen=True)
class TextConfig:
    """A causal text transformer, read at its end-of-text token; its blocks are as a ViT's.

    Example:
        >>> TextConfig(49408, 77, 512, 12, 8, 2048, 512).eos_id is None
        True
    """

    vocab_size: int
    """Entries of the token table."""
    context_length: int
    """Most tokens of a prompt, start and end included."""
    width: int
    layers: int
    heads: int
    mlp_width: int
    embed_dim: int
    activation: Activation = "quick_gelu"
    eos_id: int | None = None
    """The prompt ends at the first token with this id. None: at the largest id, OpenAI's rule,
    which Hugging Face writes as ``eos_token_id: 2``."""
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_heads("text", self.width, self.heads)


@dataclass(frozen=True)
class SiglipVisionConfig:
    """SigLIP's vision transformer: no class token, read by a learned query; else as a ViT.

    Example:
        >>> SiglipVisionConfig(384, 14, 1152, 27, 16, 4304).grid
        27
    """

    image_size: int
    """Side of the square input, in pixels; what the last whole patch leaves over is cut off."""
    patch_size: int
    width: int
    """Channels of the residual stream, and of the joint embedding."""
    layers: int
    heads: int
    """Attention heads, also of the pooling; they divide the width."""
    mlp_width: int
    """Hidden channels of a block's multi-layer perceptron, and of the pooling's."""
    activation: Activation = "gelu_tanh"
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        check_heads("vision", self.width, self.heads)
        _check_patch(self.image_size, self.patch_size)

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def embed_dim(self) -> int:
        """Width of the joint embedding."""
        return self.width


@dataclass(frozen=True)
class SiglipTextConfig:
    """SigLIP's text transformer: every token sees every other, padding too; else as CLIP's.

    Example:
        >>> SiglipTextConfig(32000, 64, 768, 12, 12, 3072, 768).context_length
        64
    """

    vocab_size: int
    """Entries of the token table."""
    context_length: int
    """Tokens of every prompt, padding included."""
    width: int
    layers: int
    heads: int
    mlp_width: int
    embed_dim: int
    activation: Activation = "gelu_tanh"
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        check_heads("text", self.width, self.heads)


@dataclass(frozen=True)
class Dinov2Config:
    """A vision transformer whose residuals are scaled a channel at a time.

    Example:
        >>> Dinov2Config(224, 14, 384, 12, 6, 1536).grid
        16
    """

    image_size: int
    """Side of the square input, in pixels; what the last whole patch leaves over is cut off."""
    patch_size: int
    width: int
    """Channels of the residual stream, and of the feature."""
    layers: int
    heads: int
    mlp_width: int
    """Hidden channels of a block's perceptron, of each of its halves where it is gated."""
    gated: bool = False
    """The perceptron is a SwiGLU, ``silu(x G) (x U)``, in place of ``activation(x U)``."""
    registers: int = 0
    """Learned tokens beside the class token, that nothing is read from."""
    activation: Activation = "gelu"
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        check_heads("vision", self.width, self.heads)
        _check_patch(self.image_size, self.patch_size)

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""
        return self.image_size // self.patch_size

    @property
    def embed_dim(self) -> int:
        """Width of the feature."""
        return self.width


@runtime_checkable
class VisionShapes(Protocol):
    """What the shapes of every image tower say."""

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels."""

    @property
    def grid(self) -> int:
        """Patches along one side of the image."""

    @property
    def embed_dim(self) -> int:
        """Width of the joint embedding."""


@runtime_checkable
class TextShapes(Protocol):
    """What the shapes of every text tower say."""

    @property
    def context_length(self) -> int:
        """Tokens of a prompt."""

    @property
    def embed_dim(self) -> int:
        """Width of the joint embedding."""


Vision = TypeVar("Vision", bound=VisionShapes)
Text = TypeVar("Text", bound=TextShapes | None)


@dataclass(frozen=True)
class ClipConfig(Generic[Vision, Text]):
    """An image tower, and a text tower that shares its embedding.

    Example:
        >>> text = TextConfig(64, 8, 16, 1, 2, 32, embed_dim=8)
        >>> ClipConfig(VitConfig(32, 16, 24, 1, 3, 48, embed_dim=8), text).embed_dim
        8
    """

    vision: Vision
    """The image tower."""
    text: Text
    """The text tower; None beside an image tower of a family that has none."""
    logit_scale_init: float = 2.6592
    """Logarithm of the inverse temperature at the start of training, ``log(1 / 0.07)``. It stays
    where there is no text: DINO's nearest neighbours are weighed at that temperature too."""

    def __post_init__(self) -> None:
        init = self.logit_scale_init
        if not isinstance(init, int | float) or not abs(init) <= 1000:  # nan is not
            raise ValueError(f"the logit scale starts at {str(init)[:40]}, which is no logarithm")
        if self.text is not None and self.vision.embed_dim != self.text.embed_dim:
            raise ValueError(
                f"the towers embed into different widths: vision {self.vision.embed_dim}, "
                f"text {self.text.embed_dim}"
            )

    @property
    def embed_dim(self) -> int:
        """Width of the joint embedding."""
        return self.vision.embed_dim


def check_heads(tower: str, width: int, heads: int) -> None:
    """Raise a ``ValueError`` at heads that do not divide the width of a tower."""
    if heads < 1 or width % heads:
        raise ValueError(f"the {tower} tower's width {width} is no multiple of its {heads} heads")


def _check_patch(image_size: int, patch_size: int) -> None:
    if image_size < patch_size:
        raise ValueError(f"image_size {image_size} is less than patch_size {patch_size}")
