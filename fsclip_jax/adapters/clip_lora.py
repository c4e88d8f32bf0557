"""CLIP-LoRA: low-rank matrices in the attention of both towers."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from fsclip_jax.adapters.base import Scalars, init_scalars
from fsclip_jax.adapters.descent import (
    Batch,
    Carry,
    Descent,
    adamw,
    cross_entropy,
    make_step,
    support_rows,
)
from fsclip_jax.adapters.prompt_text import map_pieces, token_bytes
from fsclip_jax.adapters.prompt_training import draw_batch
from fsclip_jax.clip.config import TextConfig, VitConfig
from fsclip_jax.clip.lora import FrozenImages, init_lora, merge_lora, wrap_lora
from fsclip_jax.clip.model import cast_weights
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.text import FrozenText, TextTower
from fsclip_jax.clip.vit import VisionTransformer
from fsclip_jax.episodes.task import Task, Towers
from fsclip_jax.errors import UserError
from fsclip_jax.numerics import cosine_logits, l2_normalize
from fsclip_jax.typing import Array, Float, Int, Params, PRNGKeyArray, Scalar, State, UInt8

LEARNING_RATE, LAST_RATE, WEIGHT_DECAY = 2e-4, 1e-6, 1e-2

ON_CPU, ON_ACCELERATOR = 2**31, 2**34
"""Activations that the backward pass of a tower may keep, in bytes; beyond that the work is done
in pieces that are computed again. So few are in a piece on a CPU that the tower takes it whole."""

ASKED = 256
"""Pictures that are asked together."""


@dataclass(frozen=True)
class ClipLora:
    """Zero-shot classifier of towers whose attention is trained: ``W + g B A`` in place of ``W``.

    Adapted are the query, key and value projections of every attention of both towers; ``A``
    [rank in] starts at random, ``B`` [out rank] at zero, ``g = alpha / sqrt(rank)``. In training
    ``A`` sees its input with a share of it dropped. A ResNet has one attention, its pooling;
    published are transformers alone.

    AdamW on the cross-entropy of the shots, whose rate falls by a cosine from ``lr`` to 1e-6; every
    step encodes all classes' prompts, and a random view of ``batch`` shots. One recipe for all
    data, nothing is chosen. It needs the pictures themselves, and one prompt a class. On an
    accelerator it trains in bfloat16; matrices, optimiser and what is asked stay float32.

    ``params``: the learning rate ``lr``; 0 leaves both towers as they are.

    Attributes:
        rank: rows of ``A``.
        alpha: what the scaling ``g`` grows with.
        dropout: share of the inputs of ``A`` that are dropped.
        steps: for each shot of a class.
        batch: most shots of a step.

    Example:
        >>> from fsclip_jax.adapters.catalog import example_logits
        >>> example_logits(ClipLora(steps=1)).shape
        (6, 3)

    Source: Zanella & Ben Ayed, "Low-Rank Few-Shot Adaptation of Vision-Language Models", CVPR
    Workshops 2024, sections 3 and 4; scaling and optimiser of its published code. There a step sees
    fresh random crops, of 8 % of the picture and more.
    """

    rank: int = 2
    alpha: float = 1.0
    dropout: float = 0.25
    steps: int = 500
    batch: int = 32

    name: ClassVar[str] = "clip_lora"
    scalars: ClassVar[Scalars] = {"lr": LEARNING_RATE}
    init = init_scalars
    needs: ClassVar[frozenset[str]] = frozenset({"towers"})
    one_by_one: ClassVar[bool] = True
    zero_shot_at: ClassVar[Params] = {"lr": 0.0}

    def fit(self, params: Params, task: Task, key: PRNGKeyArray) -> State:
        """Train the matrices; keep them, the merged image tower and the classes' texts."""
        towers, lora = needed_towers(task), self.train(params, task, key).params
        text = dataclasses.replace(
            towers.text, state=merge_lora(towers.text.state, lora["text"], self.gain)
        )
        image = dataclasses.replace(
            towers.image, state=merge_lora(towers.image.state, lora["image"], self.gain)
        )
        return {
            "image": image,
            "lora": lora,
            "weights": encode(lambda _: text.build(), towers.prompt_ids, key),
            "logit_scale": task.logit_scale,
        }

    def train(self, params: Params, task: Task, key: PRNGKeyArray) -> Descent:
        """Return the matrices of both towers, ``image`` and ``text``, and the losses."""
        start_key, batch_key, drop_key = jax.random.split(key, 3)
        towers, rows = needed_towers(task), support_rows(task)
        start, most = self.start(towers, start_key), self.steps * task.support.shape[1]
        count = self.steps * task.support_mask.sum(-1).max()
        tool = adamw(weight_decay=WEIGHT_DECAY)(falling(params["lr"], count))
        image, text = (_for_training(tower) for tower in (towers.image, towers.text))

        def loss(lora: Params, batch: Batch, key: PRNGKeyArray) -> Scalar:
            def wrapped(tower: Any, name: str) -> Build:
                return lambda own: wrap_lora(
                    tower.build(), lora[name], self.gain, self.dropout, own
                )

            keys = jax.random.split(key)
            seen = encode(wrapped(image, "image"), image.images(batch.features), keys[0])
            read = encode(wrapped(text, "text"), towers.prompt_ids, keys[1])
            return cross_entropy(cosine_logits(seen, read, task.logit_scale), batch)

        def step(carry: Carry, index: Int[Array, ""]) -> tuple[Carry, Scalar]:
            own = jax.random.fold_in(drop_key, index)
            batch = draw_batch(rows, self.batch, batch_key, index)
            moved, value = make_step(lambda lora, batch: loss(lora, batch, own), tool)(carry, batch)
            # Steps for slots that no class has a shot in do nothing.
            kept = jax.tree.map(lambda new, old: jnp.where(index < count, new, old), moved, carry)
            return kept, jnp.where(index < count, value, 0)

        (lora, _), losses = jax.lax.scan(step, (start, tool.init(start)), jnp.arange(most))
        return Descent(lora, losses)

    def start(self, towers: Towers, key: PRNGKeyArray) -> Params:
        """Return the matrices before training."""
        keys = jax.random.split(key)
        return {
            name: init_lora(own, tower.state, self.rank)
            for own, name, tower in zip(
                keys, ("image", "text"), (towers.image, towers.text), strict=True
            )
        }

    @property
    def cost(self) -> str:
        """What a fit costs, for the list of methods."""
        return f"{self.steps} steps a shot"

    @property
    def gain(self) -> float:
        """What ``B A`` is multiplied by."""
        return float(self.alpha / self.rank**0.5)

    def logits(
        self, state: State, query: Float[Array, "query values"] | UInt8[Array, "query values"]
    ) -> Float[Array, "query way"]:
        """Encode flat pixels with the merged tower, and compare with the texts."""
        tower = state["image"]

        def ask(pixels: Array) -> Float[Array, "query dim"]:
            return l2_normalize(tower.build()(tower.images(pixels)).astype(jnp.float32))

        return cosine_logits(map_pieces(ask, query, ASKED), state["weights"], state["logit_scale"])


def falling(peak: Float[Array, ""], steps: Int[Array, ""]) -> optax.Schedule:
    """Return half a cosine from a rate down to 1e-6, or to the rate itself where that is less.

    Example:
        >>> rate = falling(jnp.float32(2e-4), jnp.int32(100))
        >>> [round(float(rate(step)), 7) for step in (0, 50, 100)]
        [0.0002, 0.0001005, 1e-06]
    """
    last = jnp.minimum(peak, LAST_RATE)

    def rate(step: Any) -> Array:
        return last + (peak - last) * (1 + jnp.cos(jnp.pi * step / jnp.maximum(steps, 1))) / 2

    return rate


Build: TypeAlias = Callable[[PRNGKeyArray], Any]
"""Builds a tower whose dropout is drawn with a key."""


def needed_towers(task: Task) -> Towers:
    """Return the towers of a task.

    Raises:
        UserError: there are none.
    """
    if task.towers is None:
        raise UserError(
            "clip_lora trains both towers on the pictures themselves; give --data emoji, "
            "folder:DIR or another that has them, not a bank of features"
        )
    return task.towers


def encode(build: Build, rows: Array, key: PRNGKeyArray) -> Float[Array, "row dim"]:
    """Encode images or token ids to unit features, in pieces where memory asks for it.

    Each piece has a dropout of its own.
    """
    on_cpu = jax.default_backend() == "cpu"
    most = max(1, (ON_CPU if on_cpu else ON_ACCELERATOR) // max(1, row_bytes(build(key), rows)))

    def piece(part: tuple[Array, Int[Array, " row"]]) -> Float[Array, "row dim"]:
        inputs, places = part
        tower = build(jax.random.fold_in(key, places[0]))
        if rows.ndim == 4:
            inputs = inputs.astype(jax.tree.leaves(nnx.state(tower, nnx.Param))[0].dtype)
        return l2_normalize(tower(inputs).astype(jnp.float32))

    return map_pieces(piece, (rows, jnp.arange(len(rows))), most)


def row_bytes(tower: Any, rows: Array) -> int:
    """Estimate what the backward pass keeps of one image or prompt.

    Of a ResNet next to nothing: what lies before its pooling gets no gradient.
    """
    if not hasattr(tower.config, "mlp_width"):
        return 0
    tokens = tower.config.grid**2 + 1 if rows.ndim == 4 else rows.shape[1]
    return token_bytes(tower.config) * int(tokens)


def _for_training(tower: Any) -> Any:
    """Cast a frozen tower to what is trained in: float32 on a CPU, bfloat16 elsewhere."""
    if jax.default_backend() == "cpu":
        return tower
    return dataclasses.replace(tower, state=cast_weights(tower.state, jnp.bfloat16))


EXAMPLE_VALUES = 48
"""Numbers of a picture of side 4, as the example's tower takes."""


def as_pictures(task: Task, seed: int = 0) -> Task:
    """Give an example task two tiny towers, the same for all seeds; its vectors become pictures."""
    text = TextTower(TextConfig(32, 8, 16, 1, 2, 32, embed_dim=8), rngs=nnx.Rngs(0))
    image = VisionTransformer(VitConfig(4, 2, 12, 1, 2, 24, embed_dim=8), rngs=nnx.Rngs(1))
    ids = np.random.default_rng(seed).integers(0, 30, (len(task.text), 6))
    ids[:, 0], ids[:, -1] = 30, 31
    frozen = FrozenImages.of(image, Preprocess(4)), FrozenText.of(text)
    return task._replace(
        towers=Towers(*frozen, jnp.asarray(ids, jnp.int32)),
        support=as_pixels(task.support),
        views=None if task.views is None else as_pixels(task.views),
    )


def as_pixels(vectors: Float[Array, "*n values"]) -> Float[Array, "*n values"]:
    """Turn unit vectors into values of 0 to 255, most of them.

    Example:
        >>> as_pixels(jnp.array([0.0, 0.1])).tolist()
        [128.0, 168.0]
    """
    return 128 + 400 * vectors
