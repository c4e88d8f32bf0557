"""Our own online learner, meta-trained and compared on the bundled emoji.

    python train.py configs/meta_prior.py
    python eval.py configs/meta_prior.py

A Meta-Prior is meta-trained on the base half of the classes, like the Meta-Adapter of
``quickstart.py``, and compared on the novel half, on artists it never saw, with every method
at one fixed setting: nothing is searched for the task by any of them.
"""

from dataclasses import replace

from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.training.config import EMOJI_RECIPE

train = replace(
    EMOJI_RECIPE,
    method="meta_prior",
    # All that is learned is scalars on a logarithmic scale, so the rate is high.
    learning_rate=5e-3,
    steps=150,
    batch=4,
    eval_every=150,
    checkpoint_every=50,
)

evaluate = EvalConfig(
    data="emoji",
    backbone="mini",
    protocol="cross_category",
    shots=(1, 2, 4),
    seeds=5,
    views=1,
    select="none",
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
        "meta_prior",
    ),
)
