"""Learn the numbers of Meta-Probe over many tasks; print them as the module has them.

    python scripts/meta_probe/train_meta_probe.py --features ../shared/features/imagenet_vitb32.npz

Every training starts from nothing and sees other tasks; the numbers are the mean of all.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from imagenet_groups import GROUPS
from task_episodes import Episodes, Pool, alter, draw, emoji, photographs, reduce_width

from fsclip_jax.adapters.meta_probe import MetaProbe
from fsclip_jax.adapters.task_statistics import look_at
from fsclip_jax.episodes.task import Task
from fsclip_jax.typing import Array, Float, Params

SIZES = ((24, 6), (24, 6), (56, 2), (24, 6), (8, 12), (24, 6), (120, 1), (24, 6))
"""Ways and numbers of tasks of the batches, in turn."""

EMOJI, ALTERED, DECAY = 0.1, 0.15, 1e-4
"""Shares of batches that are of emoji, and that are altered; decay of the weights."""

PROBE = MetaProbe()


def loss_of(params: Params, tasks: Any, width: int, right: float) -> Float[Array, ""]:
    """Cross entropy, and ``right`` times the chance to be wrong, a smooth error."""

    def one(support: Array, mask: Array, text: Array, scale: Array, query: Array) -> Array:
        task = Task(support, mask, text, scale)
        state = PROBE.solve(params, task, look_at(task)._replace(width=width))
        logs = jax.nn.log_softmax(PROBE.logits(state, query), axis=-1)
        way = text.shape[0]
        own = jnp.repeat(jnp.arange(way), query.shape[0] // way)[:, None]
        said = jnp.take_along_axis(logs, own, axis=-1)
        return jnp.mean(-said + right * (1.0 - jnp.exp(said)))

    decay = sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params["weights"]))
    return jnp.mean(jax.vmap(one)(*tasks)) + DECAY * decay


def start() -> Params:
    """The parameters before anything is learned."""
    params = jax.tree.map(jnp.zeros_like, PROBE.init(jax.random.key(0), 1))
    return {**params, "strength": jnp.float32(1.0), "means_bias": jnp.float32(0.5)}


def learn(pools: tuple[Pool, Pool], seed: int, steps: int, right: float) -> Params:
    """Train once."""
    rng, params = np.random.default_rng(seed), start()
    rate = optax.warmup_cosine_decay_schedule(0.01, 0.08, 8, steps)
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(rate, b1=0.9, b2=0.98))
    held = optimiser.init(params)

    def update(params: Params, held: Any, tasks: Episodes, width: int) -> tuple[Any, Any, Any]:
        loss, slope = jax.value_and_grad(loss_of)(params, tasks, width, right)
        slope["strength"] = jnp.zeros(())
        change, held = optimiser.update(slope, held)
        return optax.apply_updates(params, change), held, loss

    stepped, losses = jax.jit(update, static_argnums=3), []
    for step in range(steps):
        way, count = SIZES[step % len(SIZES)]
        tasks = draw(rng, pools[int(rng.random() < EMOJI)], way, count)
        if rng.random() < ALTERED:
            tasks = alter(rng, tasks)
        width = tasks.text.shape[-1]
        tasks = Episodes(*(x.astype(bool if x.dtype == bool else np.float32) for x in tasks))
        params, held, loss = stepped(params, held, reduce_width(tasks), width)
        losses.append(float(loss))
        if step % 50 == 49:
            print(f"seed {seed} step {step + 1} loss {np.mean(losses[-50:]):.4f}", flush=True)
    return params


def main() -> None:
    """Train with every seed, and write the mean."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, default="../shared/features/imagenet_vitb32.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--right", type=float, default=1.0, help="see loss_of")
    parser.add_argument("--out", type=Path, help="JSON of the parameters of every seed")
    asked = parser.parse_args()
    pools = photographs(asked.features, GROUPS["train"]), emoji()
    learned = [learn(pools, seed, asked.steps, asked.right) for seed in asked.seeds]
    if asked.out:
        asked.out.write_text(json.dumps([jax.tree.map(lambda x: x.tolist(), x) for x in learned]))
    mean = jax.tree.map(lambda *x: np.mean(x, axis=0), *learned)
    for name, constant in mean["constant"].items():
        row = [constant, *mean["weights"][name]]
        print(f'    "{name}": ({", ".join(f"{x:.2f}" for x in row)}),')
    print(f"MEANS_BIAS = {mean['means_bias']:.3f}")


if __name__ == "__main__":
    main()
