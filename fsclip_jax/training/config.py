"""What a meta-training run is told. Imports nothing heavy, so that help answers at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fsclip_jax.errors import UserError


@dataclass(frozen=True)
class TrainConfig:
    """Meta-train an adapter over episodes drawn from a feature bank.

    Example:
        >>> TrainConfig(data="emoji", backbone="mini", steps=100).steps
        100
    """

    data: str = "emoji"
    """Images: emoji[:TOPIC], folder:DIR (one folder per class), coop:NAME@ROOT, tfds:NAME[/CONFIG]
    or hf:NAME; or bank:DIR (features made before). `fsclip datasets` lists published ones."""
    backbone: str = "mini"
    """CLIP: mini, a Hugging Face id (ID@REVISION pins it), a local folder or a weights file. A bank
    brings its own features."""
    method: str = "meta_adapter"
    """The adapter to train. It must have parameters to learn."""
    fields: tuple[str, ...] = ()
    """Static fields of the method that differ from its defaults, as NAME=VALUE: `heads=4
    text_in_keys=false` for meta_adapter."""
    workdir: Path | None = None
    """Folder of the run: checkpoints, logs, the trained adapter. Default: runs/<config name>."""
    steps: int = 300
    """Optimiser steps in all."""
    seed: int = 0
    """Every episode and every starting value follows from this number."""
    way: int = 1000
    """Classes of an episode; fewer if the data has fewer to train on. Many are better: the classes
    that are easily confused must meet."""
    shot: int = 16
    """Most support images a class."""
    min_shot: int | None = 1
    """Least support images a class: the number of shots of an episode is drawn from
    min_shot..shot. None: always `shot`."""
    query: int = 2
    """Query images a class."""
    batch: int = 4
    """Episodes of one optimiser step, split over as many of the devices as divide it."""
    classes: Literal["base", "easy", "all"] = "base"
    """Classes to train on: the base half, the 70 % that zero-shot classifies best (the base
    classes of `fsclip eval --class-split easy_hard`), or all. The last fifth only validates."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW, reached after the warm-up; a cosine then takes it to zero."""
    warmup_steps: int = 30
    """Steps in which the learning rate rises from zero."""
    weight_decay: float = 1e-2
    """Decoupled weight decay of the matrices; vectors, biases and scalars have none."""
    clip_norm: float = 1.0
    """The global norm of the gradient is clipped to this."""
    views: int = 1
    """Views of each image in the bank: the centre crop and views - 1 augmented ones. A bank that
    was made before has its own number of views."""
    templates: Literal["single", "ensemble"] = "single"
    """Prompts: the data set's own template, or the ensemble. A bank brings its own."""
    prompt_file: Path | None = None
    """JSON of class -> list of sentences, in place of the templates. A bank brings its own."""
    steps_per_dispatch: int = 20
    """Optimiser steps in one call of the compiled function."""
    eval_every: int = 300
    """Steps from one validation to the next; the first and the last step are always validated. The
    parameters of the highest accuracy are kept, so many validations of a short run choose by
    chance."""
    checkpoint_every: int = 100
    """Steps from one checkpoint to the next; a killed run goes on from the last one."""
    val_episodes: int = 64
    """Fixed episodes on held-out classes that the validation accuracy is measured on."""
    resume: bool = False
    """Continue the run that is in the workdir from its last checkpoint; begin if there is none."""


_AT_LEAST_ONE = (
    "steps",
    "shot",
    "query",
    "batch",
    "views",
    "steps_per_dispatch",
    "eval_every",
    "checkpoint_every",
    "val_episodes",
)


def check_config(config: TrainConfig) -> None:
    """Refuse values that no run can be made of.

    Args:
        config: the resolved configuration.

    Raises:
        UserError: naming the field, its value and what is accepted.

    Example:
        >>> check_config(TrainConfig())
    """
    for name in _AT_LEAST_ONE:
        _require(config, name, getattr(config, name) >= 1, "1 or more")
    _require(config, "way", config.way >= 2, "2 or more")
    _require(config, "seed", 0 <= config.seed < 2**31, "0 to 2147483647")
    if config.min_shot is not None:
        _require(config, "min_shot", 1 <= config.min_shot <= config.shot, f"1 to {config.shot}")
    _require(config, "learning_rate", 0 < config.learning_rate < float("inf"), "above 0")
    _require(config, "clip_norm", config.clip_norm > 0, "above 0")
    _require(config, "weight_decay", config.weight_decay >= 0, "0 or more")
    _require(config, "warmup_steps", config.warmup_steps >= 0, "0 or more")


def _require(config: TrainConfig, name: str, holds: bool, accepted: str) -> None:
    if not holds:
        flag = name.replace("_", "-")
        raise UserError(f"--{flag} is {getattr(config, name)}, but must be {accepted}")
