"""All classes at once, on the bundled emoji.

    python eval.py configs/full_way.py

Nobody drew a thing more than five times for the train images: 8 and 16 shots, as published, are
for larger data sets (``--shots 1 2 4 8 16``).

Expected at 1 and 4 shots: zero-shot 20.8 and 20.8, text prototype 32.0 and 41.3, ProKeR 31.8 and
45.9. One minute on 2 cores.
"""

from fsclip_jax.evaluation.config import EvalConfig

evaluate = EvalConfig(
    data="emoji",
    backbone="mini",
    protocol="full_way",
    methods=("zero_shot", "prototype", "text_prototype", "ridge", "tip_adapter", "gda", "proker"),
    shots=(1, 2, 4),
    seeds=3,
    views=1,
)
