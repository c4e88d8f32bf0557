"""The recipe of a meta-training run, all of it: numbers, optimiser, schedule.

Imports nothing heavy at its top, so that help answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fsclip_jax.errors import UserError

if TYPE_CHECKING:
    import optax

    from fsclip_jax.typing import Params


Placement: TypeAlias = Literal["auto", "replicated", "sharded", "host"]
"""Where the features of a bank lie in a training."""


@dataclass(frozen=True)
class TrainConfig:
    """Meta-train an adapter over episodes drawn from a feature bank.

    Example:
        >>> TrainConfig(data="emoji", backbone="mini", steps=100).steps
        100
    """

    data: str = "emoji"
    """What to train on: emoji[:TOPIC], folder:DIR, coop:NAME@ROOT, tfds:NAME[/CONFIG], hf:NAME or
    bank:DIR. `fsclip datasets` lists published ones."""
    backbone: str = "mini"
    """CLIP: mini, a Hugging Face id (ID@REVISION pins it), a local folder or a weights file. A bank
    brings its own."""
    method: str = "meta_adapter"
    """The adapter to train. It must have parameters to learn."""
    fields: tuple[str, ...] = ()
    """Static fields of the method as NAME=VALUE, such as `heads=4 text_in_keys=false`."""
    workdir: Path | None = None
    """Folder of the run; runs/CONFIG_NAME if not given, named after the data where there is no
    CONFIG.py."""
    steps: int = 100
    """Optimiser steps in all."""
    seed: int = 0
    """Every episode and every starting value follows from it."""
    way: int = 1000
    """Classes of an episode; fewer if the data has fewer. Many are better: classes that are easily
    confused must meet."""
    shot: int = 16
    """Most support images a class."""
    min_shot: int | None = 1
    """Fewest support images a class: an episode draws its number from min_shot..shot. None: always
    `shot`."""
    query: int = 2
    """Query images a class."""
    batch: int = 4
    """Episodes of a step, split over as many devices of every host as divide it."""
    classes: Literal["base", "easy", "all"] = "base"
    """Classes to train on: the base half, the 70 % that zero-shot classifies best, or all. The last
    fifth only validates."""
    learning_rate: float = 5e-4
    """Peak rate of AdamW, after the warm-up; then a cosine to zero."""
    warmup_steps: int = 30
    """Steps in which the rate rises from zero."""
    weight_decay: float = 1e-2
    """Decoupled decay of the matrices; nothing else has any."""
    clip_norm: float = 1.0
    """The gradient's global norm is clipped to this."""
    views: int = 1
    """Views of each image: the centre crop and views - 1 augmented ones. A bank brings its own."""
    templates: Literal["single", "ensemble"] = "single"
    """Prompts: the data set's own template, or the ensemble. A bank brings its own."""
    prompt_file: Path | None = None
    """JSON of class -> list of sentences, in place of the templates. A bank brings its own."""
    steps_per_dispatch: int = 20
    """Optimiser steps in one call of the compiled function."""
    eval_every: int = 100
    """Steps between validations; the first and last step always are. The best parameters are kept,
    so many validations choose by chance."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    val_episodes: int = 64
    """Fixed episodes on held-out classes to validate on."""
    bank_placement: Placement = "auto"
    """Where the features lie: a copy on every device, split over the devices, or on the host and
    its disk; auto goes by their size. The episodes are the same."""
    resume: bool = False
    """Continue the run in the workdir from its last checkpoint, if there is one."""
    coordinator: str | None = None
    """Several hosts: HOST:PORT of process 0, or auto, to ask the environment (Slurm, Open MPI,
    Kubernetes, TPU pods)."""
    processes: int | None = None
    """Several hosts: how many processes there are; process 0 alone writes to the workdir."""
    process: int | None = None
    """Several hosts: which one this is, from 0."""


EMOJI_RECIPE = TrainConfig(steps=400, way=100, shot=4, batch=8, learning_rate=1e-3)
"""The recipe of the bundled images, which are few: what ``configs/`` train with."""

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


def check_train_config(config: TrainConfig) -> None:
    """Refuse values that no run can be made of.

    Raises:
        UserError: naming the field, its value and what is accepted.

    Example:
        >>> check_train_config(TrainConfig())
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


def learning_rate(config: TrainConfig) -> optax.Schedule:
    """Linear warm-up from zero to the peak, then a cosine down to zero.

    Example:
        >>> rate = learning_rate(TrainConfig(steps=100, warmup_steps=10, learning_rate=1.0))
        >>> [round(float(rate(step)), 3) for step in (0, 5, 10, 55, 100)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    import optax

    warmup = min(config.warmup_steps, config.steps - 1)
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0 if warmup else config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=warmup,
        decay_steps=config.steps,
    )


def decays(params: Params) -> Any:
    """Which leaves have weight decay: matrices. Vectors, biases and scalars have none.

    A matrix of one row or one column counts as a vector.

    Example:
        >>> import jax.numpy as jnp
        >>> decays({"weight": jnp.eye(2), "gate": jnp.ones((1, 2)), "bias": jnp.ones(2)})
        {'bias': False, 'gate': False, 'weight': True}
    """
    import jax

    return jax.tree.map(lambda leaf: sum(size > 1 for size in leaf.shape) >= 2, params)


def meta_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """AdamW on gradients that are clipped by their global norm.

    Source: Loshchilov and Hutter, Decoupled Weight Decay Regularization, ICLR 2019.
    """
    import optax

    return optax.chain(
        clip_by_norm(config.clip_norm),
        optax.adamw(learning_rate(config), weight_decay=config.weight_decay, mask=decays),
    )


def clip_by_norm(most: float) -> optax.GradientTransformation:
    """Clip gradients by their global norm: ``g min(1, most / |g|)``.

    As `optax.clip_by_global_norm`, by a factor: divided one by one, gradients are written to memory
    once more.

    Example:
        >>> import jax.numpy as jnp
        >>> clip = clip_by_norm(50.0)
        >>> clip.update({"a": jnp.array([60.0, 80.0])}, clip.init({}))[0]["a"].tolist()
        [30.0, 40.0]
    """
    import jax
    import jax.numpy as jnp
    import optax

    def update(grads: Params, state: Any, _: Any = None) -> tuple[Params, Any]:
        norm = optax.tree.norm(grads)
        factor = jnp.where(norm < most, 1.0, most / norm)
        return jax.tree.map(lambda leaf: leaf * factor.astype(leaf.dtype), grads), state

    return optax.GradientTransformation(lambda _: optax.EmptyState(), update)
