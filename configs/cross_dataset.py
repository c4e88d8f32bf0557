"""From one data set to others, on topics of the bundled emoji.

    python train.py configs/cross_dataset.py
    python eval.py configs/cross_dataset.py

A Meta-Adapter is meta-trained on the classes of one topic, and every method's setting is chosen
on its val images; both are used as they are on four topics whose classes are others.

Expected, average over the four targets at 1 and 4 shots: zero-shot 29.0 and 29.0, Tip-Adapter
41.4 and 53.0, ProKeR 40.8 and 57.0, Meta-Adapter 39.9 and 44.0 (untrained 35.3 and 39.2).
Two minutes on 2 cores, and the pictures are encoded once before.
"""

from dataclasses import replace

from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.training.config import EMOJI_RECIPE

SOURCE = "emoji:objects"

train = replace(EMOJI_RECIPE, data=SOURCE, classes="all")

evaluate = EvalConfig(
    data=SOURCE,
    targets=("emoji:activities", "emoji:animals", "emoji:food", "emoji:travel"),
    backbone="mini",
    protocol="cross_dataset",
    methods=(
        "zero_shot",
        "prototype",
        "text_prototype",
        "tip_adapter",
        "gda",
        "proker",
        "meta_adapter",
    ),
    shots=(1, 2, 4),
    seeds=5,
    views=1,
)
