"""Published CLIPs and image towers to choose from; any other of the same layouts loads as well."""

from dataclasses import dataclass

from fsclip_jax.clip.config import (
    Activation,
    ClipConfig,
    Dinov2Config,
    ResNetConfig,
    SiglipTextConfig,
    SiglipVisionConfig,
    TextConfig,
    VitConfig,
)

SOURCES = {
    "OpenCLIP": "github.com/mlfoundations/open_clip, docs/openclip_results.csv",
    "MetaCLIP": "Xu et al., Demystifying CLIP Data, ICLR 2024 (arXiv 2309.16671)",
    "DFN": "Fang et al., Data Filtering Networks, ICLR 2024 (arXiv 2309.17425)",
    "TinyCLIP": "Wu et al., TinyCLIP, ICCV 2023 (arXiv 2309.12314)",
    "SigLIP 2": "Tschannen et al., SigLIP 2, 2025 (arXiv 2502.14786), table 1",
}
"""Where accuracies come from, by the short name that the table has."""


@dataclass(frozen=True)
class KnownModel:
    """A published model."""

    id: str
    """The spec that loads it."""
    config: ClipConfig
    """Shapes of its towers."""
    parameters: int
    """Parameters of its towers for pictures of this size, statistics of batch norms not counted."""
    licence: str
    """Of the weights, as its repository states it."""
    top1: float | None = None
    """Published zero-shot accuracy on ImageNet, in percent."""
    source: str = ""
    """Whose figure that is, a key of ``SOURCES``."""
    name: str = ""
    """What OpenAI calls it."""


def _text(width: int, layers: int, dim: int, activation: Activation) -> TextConfig:
    return TextConfig(49408, 77, width, layers, width // 64, width * 4, dim, activation)


def _vit(
    size: int,
    patch: int,
    vision: tuple[int, int, int],
    text: tuple[int, int],
    dim: int,
    activation: Activation = "quick_gelu",
    mlp_width: int | None = None,
) -> ClipConfig:
    width, layers, heads = vision
    tower = VitConfig(
        size, patch, width, layers, heads, mlp_width or 4 * width, dim, activation=activation
    )
    return ClipConfig(tower, _text(*text, dim, activation))


def _resnet(
    layers: tuple[int, ...], width: int, size: int, text_width: int, dim: int
) -> ClipConfig:
    return ClipConfig(
        ResNetConfig(layers, width, size, dim, heads=width // 2),
        _text(text_width, 12, dim, "quick_gelu"),
    )


def _siglip(size: int, patch: int, kind: str, vocab_size: int = 256_000) -> ClipConfig:
    shapes = {
        "B": (768, 12, 12, 3072),
        "L": (1024, 24, 16, 4096),
        "So400m": (1152, 27, 16, 4304),
        "g": (1536, 40, 16, 6144),
    }
    vision = SiglipVisionConfig(size, patch, *shapes[kind])
    text_kind = "So400m" if kind == "g" else kind
    text = SiglipTextConfig(vocab_size, 64, *shapes[text_kind], embed_dim=vision.width)
    return ClipConfig(vision, text)


def _dino(width: int, layers: int, heads: int, mlp_width: int, gated: bool = False) -> ClipConfig:
    return ClipConfig(Dinov2Config(224, 14, width, layers, heads, mlp_width, gated), None)


_B, _L, _H = (768, 12, 12), (1024, 24, 16), (1280, 32, 16)
_B32, _B16 = _vit(224, 32, _B, (512, 12), 512), _vit(224, 16, _B, (512, 12), 512)
_L14, _H14 = _vit(224, 14, _L, (768, 12), 768), _vit(224, 14, _H, (1024, 24), 1024)
_B32_GELU = _vit(224, 32, _B, (512, 12), 512, "gelu")
_B16_GELU = _vit(224, 16, _B, (512, 12), 512, "gelu")
_L14_GELU = _vit(224, 14, _L, (768, 12), 768, "gelu")
_H14_GELU = _vit(224, 14, _H, (1024, 24), 1024, "gelu")
_L14_336 = _vit(336, 14, _L, (768, 12), 768)
_H14_378 = _vit(378, 14, _H, (1024, 24), 1024)
_RN50 = _resnet((3, 4, 6, 3), 64, 224, 512, 1024)
_RN101 = _resnet((3, 4, 23, 3), 64, 224, 512, 512)
_RN50X4 = _resnet((4, 6, 10, 6), 80, 288, 640, 640)
_RN50X16 = _resnet((6, 8, 18, 8), 96, 384, 768, 768)
_RN50X64 = _resnet((3, 15, 36, 10), 128, 448, 1024, 1024)
_MINI = ClipConfig(
    ResNetConfig((1, 2, 2, 1), 28, 32, 192, heads=14),
    TextConfig(4096, 16, 128, 2, 4, 512, 192, activation="gelu"),
)
_G14 = _vit(224, 14, (1408, 40, 16), (1024, 24), 1024, "gelu", 6144)
_BIG_G14 = _vit(224, 14, (1664, 48, 16), (1280, 32), 1280, "gelu", 8192)
_TINY = _vit(224, 16, (256, 10, 4), (256, 3), 512)
_NC, _APPLE = "CC-BY-NC-4.0", "Apple's own"

KNOWN = (
    KnownModel("mini", _MINI, 5_344_423, "Apache-2.0"),
    *(
        KnownModel(spec, config, parameters, "MIT", top1, "OpenCLIP", name)
        for spec, config, parameters, top1, name in (
            ("timm/resnet50_clip.openai", _RN50, 102_007_137, 59.8, "RN50"),
            ("timm/resnet101_clip.openai", _RN101, 119_688_033, 62.3, "RN101"),
            ("timm/resnet50x4_clip.openai", _RN50X4, 178_300_601, 66.3, "RN50x4"),
            ("timm/resnet50x16_clip.openai", _RN50X16, 290_979_217, 70.7, "RN50x16"),
            ("timm/resnet50x64_clip.openai", _RN50X64, 623_258_305, 73.9, "RN50x64"),
            ("openai/clip-vit-base-patch32", _B32, 151_277_313, 63.3, "ViT-B/32"),
            ("openai/clip-vit-base-patch16", _B16, 149_620_737, 68.3, "ViT-B/16"),
            ("openai/clip-vit-large-patch14", _L14, 427_616_513, 75.5, "ViT-L/14"),
            ("openai/clip-vit-large-patch14-336", _L14_336, 427_944_193, 76.6, "ViT-L/14@336px"),
            ("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", _B32_GELU, 151_277_313, 66.6, ""),
            ("laion/CLIP-ViT-B-16-laion2B-s34B-b88K", _B16_GELU, 149_620_737, 70.2, ""),
            ("laion/CLIP-ViT-L-14-laion2B-s32B-b82K", _L14_GELU, 427_616_513, 75.3, ""),
            ("laion/CLIP-ViT-H-14-laion2B-s32B-b79K", _H14_GELU, 986_109_441, 78.0, ""),
            ("laion/CLIP-ViT-g-14-laion2B-s12B-b42K", _G14, 1_366_678_273, 76.6, ""),
            ("laion/CLIP-ViT-bigG-14-laion2B-39B-b160k", _BIG_G14, 2_539_567_105, 80.1, ""),
            ("laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K", _B32_GELU, 151_277_313, 69.2, ""),
            ("laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K", _B16_GELU, 149_620_737, 73.5, ""),
            ("laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K", _L14_GELU, 427_616_513, 79.2, ""),
        )
    ),
    KnownModel("facebook/metaclip-b32-400m", _B32, 151_277_313, _NC, 65.5, "MetaCLIP"),
    KnownModel("facebook/metaclip-b16-400m", _B16, 149_620_737, _NC, 70.8, "MetaCLIP"),
    KnownModel("facebook/metaclip-l14-400m", _L14, 427_616_513, _NC, 76.2, "MetaCLIP"),
    KnownModel("facebook/metaclip-b32-fullcc2.5b", _B32, 151_277_313, _NC, 67.6, "MetaCLIP"),
    KnownModel("facebook/metaclip-b16-fullcc2.5b", _B16, 149_620_737, _NC, 72.1, "MetaCLIP"),
    KnownModel("facebook/metaclip-l14-fullcc2.5b", _L14, 427_616_513, _NC, 79.2, "MetaCLIP"),
    KnownModel("facebook/metaclip-h14-fullcc2.5b", _H14, 986_109_441, _NC, 80.5, "MetaCLIP"),
    KnownModel("apple/DFN2B-CLIP-ViT-B-16", _B16, 149_620_737, _APPLE, 76.2, "DFN"),
    KnownModel("apple/DFN2B-CLIP-ViT-L-14", _L14, 427_616_513, _APPLE, 81.4, "DFN"),
    KnownModel("apple/DFN5B-CLIP-ViT-H-14", _H14, 986_109_441, _APPLE, 83.4, "DFN"),
    KnownModel("apple/DFN5B-CLIP-ViT-H-14-378", _H14_378, 986_714_881, _APPLE, 84.4, "DFN"),
    KnownModel(
        "wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M", _TINY, 23_446_017, "MIT", 41.1, "TinyCLIP"
    ),
    *(
        KnownModel(f"google/{name}", config, parameters, "Apache-2.0", top1, "SigLIP 2")
        for name, config, parameters, top1 in (
            ("siglip-base-patch16-224", _siglip(224, 16, "B", 32_000), 203_155_970, 76.2),
            ("siglip-base-patch16-256", _siglip(256, 16, "B", 32_000), 203_202_050, 76.7),
            ("siglip-base-patch16-384", _siglip(384, 16, "B", 32_000), 203_447_810, 78.6),
            ("siglip-base-patch16-512", _siglip(512, 16, "B", 32_000), 203_791_874, 79.2),
            ("siglip-large-patch16-256", _siglip(256, 16, "L", 32_000), 652_150_786, 80.5),
            ("siglip-large-patch16-384", _siglip(384, 16, "L", 32_000), 652_478_466, 82.1),
            ("siglip-so400m-patch14-224", _siglip(224, 14, "So400m", 32_000), 877_415_602, 82.2),
            ("siglip-so400m-patch14-384", _siglip(384, 14, "So400m", 32_000), 877_960_498, 83.2),
            ("siglip2-base-patch32-256", _siglip(256, 32, "B"), 376_856_066, 74.0),
            ("siglip2-base-patch16-224", _siglip(224, 16, "B"), 375_187_970, 78.2),
            ("siglip2-base-patch16-256", _siglip(256, 16, "B"), 375_234_050, 79.1),
            ("siglip2-base-patch16-384", _siglip(384, 16, "B"), 375_479_810, 80.6),
            ("siglip2-base-patch16-512", _siglip(512, 16, "B"), 375_823_874, 81.2),
            ("siglip2-large-patch16-256", _siglip(256, 16, "L"), 881_526_786, 82.5),
            ("siglip2-large-patch16-384", _siglip(384, 16, "L"), 881_854_466, 83.1),
            ("siglip2-large-patch16-512", _siglip(512, 16, "L"), 882_313_218, 83.5),
            ("siglip2-so400m-patch14-224", _siglip(224, 14, "So400m"), 1_135_463_602, 83.2),
            ("siglip2-so400m-patch14-384", _siglip(384, 14, "So400m"), 1_136_008_498, 84.1),
            ("siglip2-so400m-patch16-256", _siglip(256, 16, "So400m"), 1_135_670_962, 83.4),
            ("siglip2-so400m-patch16-384", _siglip(384, 16, "So400m"), 1_136_039_602, 84.1),
            ("siglip2-so400m-patch16-512", _siglip(512, 16, "So400m"), 1_136_555_698, 84.3),
            ("siglip2-giant-opt-patch16-256", _siglip(256, 16, "g"), 1_871_393_906, 84.5),
            ("siglip2-giant-opt-patch16-384", _siglip(384, 16, "g"), 1_871_885_426, 85.0),
        )
    ),
    KnownModel("facebook/dinov2-small", _dino(384, 12, 6, 1536), 21_628_800, "Apache-2.0"),
    KnownModel("facebook/dinov2-base", _dino(768, 12, 12, 3072), 85_724_928, "Apache-2.0"),
    KnownModel("facebook/dinov2-large", _dino(1024, 24, 16, 4096), 303_227_904, "Apache-2.0"),
    KnownModel(
        "facebook/dinov2-giant", _dino(1536, 40, 24, 4096, True), 1_134_769_664, "Apache-2.0"
    ),
)
"""The models, OpenAI's first."""


def known_as(name: str) -> str | None:
    """Find the id of a model by the name that OpenAI gave it, such as ``ViT-B/16`` or ``ViT-B-16``.

    Example:
        >>> known_as("vit-b/32"), known_as("mini")
        ('openai/clip-vit-base-patch32', None)
    """

    def plain(text: str) -> str:
        return text.lower().replace("/", "-")

    found = (model.id for model in KNOWN if model.name and plain(model.name) == plain(name))
    return next(found, None)


def backbones() -> tuple[KnownModel, ...]:
    """Return the published CLIPs that are known by name; others load by their Hugging Face id.

    Example:
        >>> [model.id for model in backbones()][:1]
        ['mini']
    """
    return KNOWN
