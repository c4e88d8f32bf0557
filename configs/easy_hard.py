"""Easy classes to train on, hard ones to be tested on, on the bundled emoji.

    python train.py configs/easy_hard.py
    python eval.py configs/easy_hard.py
    python eval.py configs/easy_hard.py --label-space generalised

The split of the Meta-Adapter paper: the 70 % of the classes that zero-shot classifies best are
base, measured on train images alone, the others are novel.

Expected on the novel classes at 1 and 4 shots: zero-shot 15.8 and 15.8, Tip-Adapter 33.8 and 46.7,
GDA 33.2 and 48.1, Meta-Adapter 22.9 and 30.0. On easy classes that are held out, no step of its
training is better than its start, so it stays as it began; on halves, which are alike, it learns
more (``quickstart.py``). Two minutes on 2 cores.
"""

from dataclasses import replace

from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.training.config import EMOJI_RECIPE

train = replace(EMOJI_RECIPE, classes="easy")

evaluate = EvalConfig(
    data="emoji",
    backbone="mini",
    protocol="cross_category",
    class_split="easy_hard",
    methods=("zero_shot", "prototype", "text_prototype", "tip_adapter", "gda", "meta_adapter"),
    shots=(1, 2, 4),
    seeds=5,
    views=1,
)
