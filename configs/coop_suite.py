"""The eleven data sets of CoOp, five numbers of shots, every method without a training run.

    fsclip suite configs/coop_suite.py --root DIR --backbones openai/clip-vit-base-patch16

DIR holds the data sets in CoOp's layout: `fsclip datasets` says how to get each. A data set that
is not there is reported, and the rest goes on; run the same command again when it is.
Expected: the rows of `fsclip datasets NAME`, within their intervals. Hours on a GPU: the images
are encoded once, each data set into a bank.
"""

from fsclip_jax.suite.config import SuiteConfig

NAMES = (
    "imagenet",
    "caltech101",
    "oxford_pets",
    "stanford_cars",
    "oxford_flowers",
    "food101",
    "fgvc_aircraft",
    "sun397",
    "dtd",
    "eurosat",
    "ucf101",
)

suite = SuiteConfig(
    data=tuple(f"coop:{name}@{{root}}" for name in NAMES),
    backbones=("openai/clip-vit-base-patch16",),
    methods=(
        "zero_shot",
        "prototype",
        "text_prototype",
        "ridge",
        "tip_adapter",
        "tip_x",
        "ape",
        "gda",
        "proker",
        "tip_adapter_f",
        "clip_adapter",
        "taskres",
    ),
    shots=(1, 2, 4, 8, 16),
    seeds=3,
)
