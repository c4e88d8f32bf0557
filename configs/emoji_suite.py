"""A suite without a download: the bundled emoji, closed-form methods, five numbers of shots.

fsclip suite configs/emoji_suite.py
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
