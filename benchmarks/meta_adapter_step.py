"""A training step of the Meta-Adapter: the published form in PyTorch against ours in JAX.

Both do the whole step in float32: forward, backward, AdamW. The published form projects the text
and the shots of every class with the key weights, K + 1 rows a class; ours never projects a shot.
Ours is the step of ``fsclip train`` itself, of one episode that lies on the device: it counts the
right answers and clips the gradient too. The gradients of the two are compared first.
The floor is what a step cannot do without, at the rates of a large product and of a copy of as many
bytes as a step holds, which are measured beside it. A far larger copy is no measure: what a step
holds stays in the last cache of a CPU, and against memory a step of 100 classes took 0.55 floors.

    python benchmarks/meta_adapter_step.py

The last line is ``ratio X``, the smallest over the sizes. PyTorch must be installed.
"""

import argparse
import os
import statistics

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from ceilings import copy_rate, floor, product_rate
from pairs import add_bound, bound_of, report, run_pairs

from fsclip_jax.adapters.meta_adapter import MetaAdapter, init_params
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.machine import cores
from fsclip_jax.training.config import TrainConfig, meta_optimizer
from fsclip_jax.training.state import TrainState
from fsclip_jax.training.step import loss_and_grads, make_multi_step

LEARNING_RATE, WEIGHT_DECAY, LOGIT_SCALE = 1e-4, 1e-2, 100.0


def unit(rng, *shape):
    x = rng.standard_normal(shape, np.float32)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def make_data(way, shot, dim, batch):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, way, batch).astype(np.int32)
    return unit(rng, way, dim), unit(rng, way, shot, dim), unit(rng, batch, dim), labels


def our_episode(data):
    """Return the data as a batch of one episode."""
    text, support, query, labels = (jnp.asarray(x)[None] for x in data)
    mask = jnp.ones(support.shape[:3], bool)
    task = Task(support, mask, text, jnp.full(1, LOGIT_SCALE))
    return task, Query(query, labels, jnp.ones(labels.shape, bool))


def our_steps(params, data):
    """Return a function that takes so many steps and waits."""
    # Nearly all steps in one run, so that the rate hardly falls. The data are arguments: as
    # constants of the program they could be worked on when it is compiled.
    config = TrainConfig(
        batch=1, steps=10**6, warmup_steps=0, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    multi_step = make_multi_step(MetaAdapter(), config, lambda _, *episode: episode)
    moments = meta_optimizer(config).init(params)
    state = [TrainState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params), moments)]
    episode, key = our_episode(data), jax.random.key(0)

    def run(steps):
        state[0], _ = jax.block_until_ready(multi_step(state[0], key, episode, steps=steps))

    return run


def work(way, shot, dim, batch, width=4):
    """FLOP and bytes that a step cannot do without; ``width`` is the bytes of a feature.

    Products: text and probes by the two weights, forward and for what is learned; the shots by the
    probes and by their shares, and as much for the gradients; the logits. Memory: the shots once
    forward and once backward, the text three times; of every weight three reads, its gradient
    written and read, and AdamW's two moments and the weight itself read and written.
    """
    flops = 10 * way * dim**2 + 8 * way * shot * dim + 4 * batch * way * dim
    return flops, way * dim * (2 * shot + 3) * width + 2 * dim**2 * (1.5 + 2 + 6) * 4


def held(way, shot, dim, width=4):
    """Bytes that a step comes back to: the shots, and the weights, gradients and moments."""
    return way * shot * dim * width + 2 * dim**2 * 4 * 4


def relative_error(params, data):
    """Return the largest relative error over the gradients of the parameters."""
    from published import meta_adapter_step as published

    model, tensors, _ = published.steps(params, data)
    published.loss(model, *tensors).backward()
    _, _, ours = jax.jit(loss_and_grads(MetaAdapter()))(
        params, *our_episode(data), jax.random.split(jax.random.key(0), 1)
    )
    errors = []
    for name, parameter in model.named_parameters():
        module, leaf = name.split(".")
        theirs = parameter.grad.numpy()
        difference = np.linalg.norm(np.asarray(ours[module][leaf]) - theirs)
        errors.append(difference / np.linalg.norm(theirs))
    return max(errors)


def print_floors(rows, floors):
    """Print the least that arithmetic allows at the rates measured beside, and the share of it."""
    print(f"{'size':<16}{'floor ms':>10}{'share':>8}  {'bound by':<10}{'GFLOP/s':>9}{'GB/s':>7}")
    for (name, pairs), (least, bound, product, copy) in zip(rows, floors, strict=True):
        share = least / statistics.median(pairs.ours)
        print(
            f"{name:<16}{1e3 * least:>10.2f}{share:>8.0%}  {bound:<10}{product / 1e9:>9.0f}"
            f"{copy / 1e9:>7.1f}"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--shot", type=int, default=16)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    add_bound(parser, 9)
    parser.add_argument("--steps", type=int, default=5, help="steps a turn")
    parser.add_argument("--threads", type=int, default=cores())
    args = parser.parse_args()
    import torch
    from published import meta_adapter_step as published

    torch.set_num_threads(args.threads)
    product = product_rate(jnp.float32)
    floors = []
    params = init_params(jax.random.key(0), args.dim)
    rows = []
    for way in args.way:
        data = make_data(way, args.shot, args.dim, args.batch)
        error = relative_error(params, data)
        print(f"{way} classes: gradients differ by {error:.1e} (relative)")
        if error > 1e-5:
            raise SystemExit("the gradients are not equal to 1e-5")
        _, _, theirs = published.steps(params, data)
        ours = our_steps(params, data)
        copy = copy_rate(held(way, args.shot, args.dim))
        rates = product(), copy()
        rows.append((f"{way} classes", run_pairs(theirs, ours, bound_of(args), args.steps)))
        rates = [max(pair) for pair in zip(rates, (product(), copy()), strict=True)]
        least, bound = floor(*work(way, args.shot, args.dim, args.batch), *rates)
        floors.append((least, bound, *rates))
    print_floors(rows, floors)
    report(rows)


if __name__ == "__main__":
    main()
