"""All classes at once over five numbers of shots, on the bundled emoji.

    python eval.py configs/full_way.py

No class has more than nine train images: from nine shots on all of them are the support, and
there is a single draw.
"""

from fsclip_jax.evaluation.config import EvalConfig

evaluate = EvalConfig(
    data="emoji",
    backbone="mini",
    protocol="full_way",
    methods=("zero_shot", "prototype", "text_prototype", "ridge", "tip_adapter", "gda", "proker"),
    shots=(1, 2, 4, 8, 16),
    seeds=3,
    views=1,
)
