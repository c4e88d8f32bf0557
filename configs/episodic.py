"""Many small tasks of classes that an adapter was not trained on, on the bundled emoji.

    python train.py configs/quickstart.py
    python eval.py configs/episodic.py

600 episodes of 5 novel classes, 1 and 4 shots; the interval is over the episodes.

Expected at 1 and 4 shots: zero-shot 73.7 and 73.7, Tip-Adapter 86.3 and 91.9, Meta-Adapter 86.4
and 88.1 (untrained 80.9 and 85.1), all ±1.4 or less. Half a minute on 2 cores.
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
