"""Learn the numbers of Meta-Probe over many tasks; print them as the module has them.

    python scripts/meta_probe/train_meta_probe.py --features ../shared/features/imagenet_vitb32.npz

Every training starts from nothing and sees other tasks; the numbers are the mean of all. With
``--workdir`` one that was stopped goes on. A seed takes a minute or two of processor time.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from imagenet_groups import GROUPS
from task_episodes import Episodes, Pool, alter, draw, emoji, photographs, reduce_width

from fsclip_jax.adapters.meta_probe import LEARNED, MetaProbe
from fsclip_jax.adapters.task_statistics import look_at
from fsclip_jax.episodes.task import Task
from fsclip_jax.typing import Array, Float, Params

SIZES = ((24, 6), (24, 6), (56, 2), (24, 6), (8, 12), (24, 6), (120, 1), (24, 6))
"""Ways and numbers of tasks of the batches, in turn."""

EMOJI, ALTERED, DECAY = 0.1, 0.15, 1e-4
"""Shares of batches that are of emoji, and that are altered; decay of the weights."""

BELOW = 3.0
"""Weight of what a task falls below zero-shot by, in smooth error."""

KEPT = 50
"""Steps from one checkpoint to the next."""

PROBE = MetaProbe()


def loss_of(params: Params, tasks: Episodes, width: Float[Array, ""]) -> Float[Array, ""]:
    """Cross entropy, and :data:`BELOW` times what the error is above that of zero-shot."""

    def one(each: tuple[Array, ...]) -> Array:
        support, mask, text, scale, query = each
        task = Task(support, mask, text, scale)
        logits = PROBE.logits(PROBE.solve(params, task, look_at(task)._replace(width=width)), query)
        way = text.shape[0]
        own = jnp.repeat(jnp.arange(way), query.shape[0] // way)[:, None]
        said = jnp.take_along_axis(jax.nn.log_softmax(logits, axis=-1), own, axis=-1)
        more = smooth_error(logits, own) - smooth_error(query @ text.T, own)
        return jnp.mean(-said) + BELOW * jax.nn.relu(more)

    decay = sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params["weights"]))
    return jnp.mean(jax.lax.map(one, tuple(tasks))) + DECAY * decay


def smooth_error(logits: Float[Array, "query way"], own: Array) -> Float[Array, ""]:
    """Share that is wrong, smoothed, and the same for logits of any scale."""
    logits = logits - logits.mean(-1, keepdims=True)
    logits = 8.0 * logits / (jnp.std(logits) + 1e-9)
    others = jnp.where(jnp.arange(logits.shape[-1])[None] == own, -jnp.inf, logits)
    ahead = jax.nn.logsumexp(others, axis=-1) - jnp.take_along_axis(logits, own, axis=-1)[:, 0]
    return jnp.mean(jax.nn.sigmoid(ahead))


def start() -> Params:
    """The parameters before anything is learned."""
    params = jax.tree.map(jnp.zeros_like, PROBE.init(jax.random.key(0), 1))
    return {**params, "strength": jnp.float32(1.0), "means_bias": jnp.float32(0.5)}


def draw_batch(seed: int, step: int, pools: tuple[Pool, Pool]) -> tuple[Episodes, np.ndarray]:
    """The tasks of a step, on few axes, and the width that they had."""
    rng = np.random.default_rng((seed, step))
    way, count = SIZES[step % len(SIZES)]
    tasks = draw(rng, pools[int(rng.random() < EMOJI)], way, count)
    if rng.random() < ALTERED:
        tasks = alter(rng, tasks)
    width = np.float32(tasks.text.shape[-1])
    tasks = Episodes(*(x.astype(bool if x.dtype == bool else np.float32) for x in tasks))
    return reduce_width(tasks), width


class Held(NamedTuple):
    """Where a training is."""

    step: Any
    params: Params
    optimiser: Any


def learn(pools: tuple[Pool, Pool], seed: int, steps: int, kept: Path | None = None) -> Params:
    """Train once; go on where ``kept`` ends, if there is one."""
    rate = optax.warmup_cosine_decay_schedule(0.01, 0.06, 8, steps)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b1=0.9, b2=0.98))
    held = Held(np.array(0), start(), optimiser.init(start()))
    if kept and kept.is_file():
        with np.load(kept) as stored:
            held = jax.tree.unflatten(jax.tree.structure(held), list(stored.values()))

    @jax.jit
    def stepped(params: Params, held: Any, tasks: Episodes, width: Array) -> tuple[Any, Any, Any]:
        loss, slope = jax.value_and_grad(loss_of)(params, tasks, width)
        slope["strength"] = jnp.zeros(())
        change, held = optimiser.update(slope, held)
        return optax.apply_updates(params, change), held, loss

    losses = []
    while held.step < steps:
        params, state, loss = stepped(*held[1:], *draw_batch(seed, int(held.step), pools))
        held = Held(held.step + 1, params, state)
        losses.append(float(loss))
        if held.step % KEPT == 0:
            print(f"seed {seed} step {held.step} loss {np.mean(losses[-KEPT:]):.4f}", flush=True)
            if kept:
                np.savez(kept, *jax.tree.leaves(held))
    return held.params


def main() -> None:
    """Train with every seed, and write the mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, default="../shared/features/imagenet_vitb32.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--workdir", type=Path, help="where checkpoints and parameters are kept")
    asked = parser.parse_args()
    pools = photographs(asked.features, GROUPS["train"]), emoji()
    learned = []
    for seed in asked.seeds:
        kept = asked.workdir / f"seed{seed}.npz" if asked.workdir else None
        learned.append(learn(pools, seed, asked.steps, kept))
    if asked.workdir:
        written = [jax.tree.map(lambda x: x.tolist(), each) for each in learned]
        (asked.workdir / "learned.json").write_text(json.dumps(written))
    mean = jax.tree.map(lambda *x: np.mean(x, axis=0), *learned)
    for name in LEARNED:
        row = [mean["constant"][name], *mean["weights"][name]]
        print(f'    "{name}": ({", ".join(f"{x:.2f}" for x in row)}),')
    print(f"MEANS_BIAS = {mean['means_bias']:.3f}")


if __name__ == "__main__":
    main()
