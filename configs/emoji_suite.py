"""A suite without a download: the bundled emoji, closed-form methods, three numbers of shots.

    fsclip suite configs/emoji_suite.py

Expected on the novel classes at 1 and 4 shots: zero-shot 28.9 and 28.9, text prototype 40.8 and
50.5, ProKeR 38.8 and 53.2. Somewhat over a minute on 2 cores.
"""

from fsclip_jax.suite.config import SuiteConfig

suite = SuiteConfig(
    data=("emoji",),
    backbones=("mini",),
    methods=("zero_shot", "prototype", "text_prototype", "tip_adapter", "tip_x", "gda", "proker"),
    shots=(1, 2, 4),
    seeds=3,
    protocol="cross_category",
    views=1,
)
