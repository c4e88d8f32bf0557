"""ImageNet to its four shifted versions: -V2, -Sketch, -A and -R.

    python eval.py configs/imagenet_shift.py --data coop:imagenet@DIR \
        --targets folder:DIR/imagenetv2 folder:DIR/sketch folder:DIR/imagenet-a \
        folder:DIR/imagenet-r --backbone openai/clip-vit-base-patch16

Folders of classes may be called by WordNet id or by name. Those of -A and -R are 200 of the
classes, and are told apart among themselves, as published. An adapter that was meta-trained on
ImageNet is given with `--checkpoint`.
"""

from fsclip_jax.evaluation.config import EvalConfig

evaluate = EvalConfig(
    data="coop:imagenet@data",
    protocol="domain_shift",
    backbone="openai/clip-vit-base-patch16",
    targets=(
        "folder:data/imagenetv2",
        "folder:data/sketch",
        "folder:data/imagenet-a",
        "folder:data/imagenet-r",
    ),
    methods=("zero_shot", "prototype", "tip_adapter", "ape", "gda", "proker", "meta_adapter"),
    shots=(16,),
    seeds=3,
    select="val",
)
