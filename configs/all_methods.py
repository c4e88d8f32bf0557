"""Every method in one table, on the bundled emoji.

    python train.py configs/quickstart.py --workdir runs/all_methods/meta_adapter
    python train.py configs/meta_prior.py --workdir runs/all_methods/meta_prior
    python eval.py configs/all_methods.py

The base and the novel half of the classes, artists that nobody trained on, three draws of the
support. What was not meta-trained before takes part untrained. CoOp and CoCoOp train through the
text tower and take longer: add ``--methods all coop cocoop``. ProLIP trains the last projection of
the image tower: add ``--features pre``.
"""

from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.training.config import TrainConfig

train = TrainConfig(data="emoji", backbone="mini")

evaluate = EvalConfig(
    data="emoji",
    backbone="mini",
    methods=("all",),
    protocol="cross_category",
    shots=(1, 2, 4),
    seeds=3,
    views=1,
)
