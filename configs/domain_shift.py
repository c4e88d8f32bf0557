"""From some artists to others, on the bundled emoji.

    python train.py configs/quickstart.py
    python eval.py configs/domain_shift.py

The shots were drawn by four families of artists, settings are chosen on a fifth, and the images
that are asked were drawn by two others. The Meta-Adapter is the quickstart's; it takes part
untrained if that was not trained before.

Expected, average over the two families at 1 and 4 shots: zero-shot 21.3 and 21.3, Tip-Adapter
32.7 and 43.2, ProKeR 33.5 and 45.6, Meta-Adapter 32.0 and 34.9. ProKeR alone takes
four minutes on a core.
"""

from pathlib import Path

from fsclip_jax.evaluation.config import EvalConfig

evaluate = EvalConfig(
    data="emoji",
    backbone="mini",
    protocol="domain_shift",
    methods=(
        "zero_shot",
        "prototype",
        "text_prototype",
        "tip_adapter",
        "gda",
        "proker",
        "meta_adapter",
    ),
    shots=(1, 2, 4),
    seeds=5,
    views=1,
    workdir=Path("runs/quickstart"),
    out=Path("runs/domain_shift"),
)
