"""Many small tasks of classes that an adapter was not trained on, on the bundled emoji.

    python train.py configs/quickstart.py
    python eval.py configs/episodic.py

600 episodes of 5 novel classes, 1 and 4 shots; the interval is over the episodes.
"""

from pathlib import Path

from fsclip_jax.evaluation.config import EvalConfig

evaluate = EvalConfig(
    data="emoji",
    backbone="mini",
    protocol="episodic",
    classes="novel",
    way=5,
    query=15,
    episodes=600,
    methods=("zero_shot", "prototype", "text_prototype", "tip_adapter", "gda", "meta_adapter"),
    shots=(1, 4),
    views=1,
    workdir=Path("runs/quickstart"),
    out=Path("runs/episodic"),
)
