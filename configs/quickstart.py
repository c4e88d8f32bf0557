"""The whole thing offline in minutes: the bundled emoji through the bundled mini CLIP.

    python train.py configs/quickstart.py
    python eval.py configs/quickstart.py

A Meta-Adapter is meta-trained on the base half of the classes and compared, on the novel half and
on artists it never saw, with methods that need no training.
``configs/all_methods.py`` compares every method there is.
"""

from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.training.config import EMOJI_RECIPE

train = EMOJI_RECIPE

evaluate = EvalConfig(
    data="emoji",
    backbone="mini",
    methods=("zero_shot", "prototype", "text_prototype", "tip_adapter", "gda", "meta_adapter"),
    protocol="cross_category",
    shots=(1, 2, 4),
    seeds=5,
    views=1,
)
