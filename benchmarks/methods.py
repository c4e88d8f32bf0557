"""Fit and predict of every method: the published form in plain PyTorch against ours.

The published forms are in ``benchmarks/published``: written from the equations, in the published
order of operations, eager. Ours are compiled. Both get the same features and the same settings,
and the trained ones take as many steps.

    python benchmarks/methods.py                            # all, 100 classes, 16 shots
    python benchmarks/methods.py --methods gda clap --way 1000 --shot 4

The features are synthetic: a shared direction, a class direction and noise, as CLIP's are. The
last line is ``ratio X``, the smallest over the methods of the time of fitting once and
classifying all queries once, published over ours. PyTorch must be installed.
"""

import argparse
import importlib
import os
import statistics
from importlib.util import find_spec
from types import ModuleType

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from pairs import Bound, Pairs, add_bound, bound_of, run_pairs
from tip_search import LOGIT_SCALE, make_data

from fsclip_jax.adapters.base import Adapter, needs_of
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.episodes.task import Prompts, Task
from fsclip_jax.machine import cores


def make_tasks(way, shot, queries, dim, prompts):
    """Return the task for ours, the same for the published forms, and the queries.

    Without PyTorch there is none for the published forms.
    """
    support, text, features, _ = make_data(way, shot, queries, dim)
    rng = np.random.default_rng(1)
    vectors = text[:, None] + 0.3 * rng.standard_normal((way, prompts, dim)) / np.sqrt(dim)
    vectors = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    mask = np.ones((way, shot), bool)
    ours = Task(
        *map(jnp.asarray, (support, mask, text)),
        jnp.float32(LOGIT_SCALE),
        prompts=Prompts(jnp.asarray(vectors), jnp.ones((way, prompts), bool)),
    )
    if not find_spec("torch"):
        return ours, None, features
    import torch

    published = {
        "support": torch.tensor(support),
        "mask": torch.tensor(mask),
        "text": torch.tensor(text),
        "logit_scale": LOGIT_SCALE,
        "views": None,
        "prompts": (torch.tensor(vectors), torch.ones(way, prompts, dtype=torch.bool)),
    }
    return ours, published, features


def compare(adapter: Adapter, published: ModuleType, tasks: tuple, bound: Bound) -> list[Pairs]:
    """Time fit and predict of one method in turn with its published form."""
    task, plain_task, features = tasks
    params = adapter.init(jax.random.key(0), features.shape[1])
    fit, predict = jax.jit(adapter.fit), jax.jit(adapter.logits)
    import torch

    key, query, plain_query = jax.random.key(1), jnp.asarray(features), torch.tensor(features)
    wait = torch.cuda.synchronize if plain_query.is_cuda else lambda: None
    state, plain_state = fit(params, task, key), published.fit(plain_task)

    def plain_predict():
        with torch.no_grad():
            return published.logits(plain_state, plain_query)

    def times(run):
        return lambda number: [run() for _ in range(number)]

    def waited(run):
        return lambda number: ([run() for _ in range(number)], wait())

    return [
        run_pairs(
            waited(lambda: published.fit(plain_task)),
            times(lambda: jax.block_until_ready(fit(params, task, key))),
            bound,
        ),
        run_pairs(
            waited(plain_predict),
            times(lambda: jax.block_until_ready(predict(state, query))),
            bound,
        ),
    ]


def main() -> None:
    """Time the methods and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--methods", nargs="+", default=["all"])
    parser.add_argument("--way", type=int, default=100)
    parser.add_argument("--shot", type=int, default=16)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=512)
    add_bound(parser)
    given = parser.parse_args()
    import torch

    torch.set_num_threads(cores())
    tasks = make_tasks(given.way, given.shot, given.queries, given.dim, prompts=7)
    print(f"{given.way} classes, {given.shot} shots, {given.queries} queries, {given.dim} features")
    print(f"{'':<18}{'fit, ms':^36}{'predict, ms':^36}")
    columns = f"{'published':>11}{'ours':>9}{'ratio':>8}{'spread':>8}"
    print(f"{'method':<18}{columns}{columns}", flush=True)
    whole = []
    for name in ADAPTERS if "all" in given.methods else given.methods:
        adapter = get_adapter(name)
        other = needs_of(adapter) & {"words", "patches", "projection", "towers"}
        if other or not find_spec(f"published.{name}"):
            continue  # benchmarks/prompts.py has learned prompts; ours has no other form
        published = importlib.import_module(f"published.{name}")
        parts = compare(adapter, published, tasks, bound_of(given))
        line = f"{name:<18}"
        for part in parts:
            theirs, ours = (1e3 * statistics.median(times) for times in part)
            line += f"{theirs:>11.2f}{ours:>9.2f}{part.ratio:>8.2f}{part.spread:>8.1%}"
        print(line, flush=True)
        both = [[f + p for f, p in zip(*side, strict=False)] for side in zip(*parts, strict=True)]
        whole.append(Pairs(*both).ratio)
    print(f"ratio {min(whole):.2f}")


if __name__ == "__main__":
    main()
