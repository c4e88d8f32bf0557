"""What a meta-training run is told. Imports nothing heavy, so that help answers at once."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class TrainConfig:
    """Meta-train an adapter over episodes drawn from a feature bank.

    Example:
        >>> TrainConfig(data="emoji", backbone="mini", steps=100).steps
        100
    """

    data: str = "emoji"
    """Images: emoji, folder:DIR (one folder per class), or bank:DIR (features made before)."""
    backbone: str = "mini"
    """CLIP: mini, a Hugging Face id, or a local folder. A bank brings its own features."""
    method: str = "meta_adapter"
    """The adapter to train. It must have parameters to learn."""
    workdir: str | None = None
    """Folder of the run: checkpoints, logs, the trained adapter. Default: runs/<config name>."""
    steps: int = 2000
    """Optimiser steps in all."""
    seed: int = 0
    """Every episode and every starting value follows from this number."""
    way: int = 50
    """Classes of an episode; fewer if the data has fewer to train on."""
    shot: int = 16
    """Most support images a class."""
    min_shot: int | None = 1
    """Least support images a class: the number of shots of an episode is drawn from
    min_shot..shot. None: always `shot`."""
    query: int = 4
    """Query images a class."""
    batch: int = 8
    """Episodes of one optimiser step; must be divisible by the number of devices."""
    classes: Literal["base", "all"] = "base"
    """Classes to train on: the base half, or all. The last fifth of them only validates."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW, reached after the warm-up; a cosine then takes it to zero."""
    warmup_steps: int = 50
    """Steps in which the learning rate rises from zero."""
    weight_decay: float = 1e-2
    """Decoupled weight decay of the matrices; biases and scalars have none."""
    clip_norm: float = 1.0
    """The global norm of the gradient is clipped to this."""
    views: int = 4
    """Views of each image in the bank: the centre crop and views - 1 random crops."""
    steps_per_dispatch: int = 25
    """Optimiser steps in one call of the compiled function."""
    eval_every: int = 200
    """Steps from one validation to the next."""
    checkpoint_every: int = 200
    """Steps from one checkpoint to the next."""
    val_episodes: int = 64
    """Fixed episodes on held-out classes that the validation accuracy is measured on."""
    resume: bool = False
    """Continue the run that is in the workdir from its last checkpoint."""
