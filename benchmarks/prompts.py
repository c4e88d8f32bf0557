"""CoOp and CoCoOp: the published steps in plain PyTorch against ours, on the bundled text tower.

The published forms are in ``benchmarks/published``: every step encodes the prompts of all classes
at the full context length, CoCoOp one image after another, eager. Both sides start alike, see the
same batches and take as many steps.

    python benchmarks/prompts.py                     # 100 classes, 4 shots
    python benchmarks/prompts.py --way 20 --steps 20

Times are of one training step and of classifying all queries. The last line is ``ratio X``, the
smaller of the two methods' ratios of a step, published over ours. PyTorch must be installed.
"""

import argparse
import os
import statistics

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax import nnx
from pairs import Bound, Pairs, add_bound, bound_of, run_pairs
from published import cocoop as published_cocoop
from published import coop as published_coop
from published.text_tower import TextTower
from safetensors.numpy import load_file

from fsclip_jax.adapters.catalog import example_task
from fsclip_jax.adapters.cocoop import CoCoOp, init_meta_net
from fsclip_jax.adapters.coop import CoOp
from fsclip_jax.adapters.descent import support_rows
from fsclip_jax.adapters.prompt_text import first_context
from fsclip_jax.adapters.prompt_training import draw_batch
from fsclip_jax.clip.load import find_model, load_clip
from fsclip_jax.clip.text import FrozenText
from fsclip_jax.episodes.task import Words
from fsclip_jax.machine import cores

HEADS, CONTEXT = 4, 4


def make_task(way: int, shot: int, queries: int):
    """Return a task with the text tower of the mini CLIP, and the queries."""
    backbone = load_clip("mini")
    text = nnx.merge(backbone.graphdef, backbone.state).text
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 6, way)
    ids = rng.integers(1, 4000, (way, 5)) * (np.arange(5) < lengths[:, None])
    words = Words(
        ids=jnp.asarray(ids, jnp.int32),
        lengths=jnp.asarray(lengths, jnp.int32),
        start_id=jnp.int32(4094),
        end_id=jnp.int32(4095),
        tail_ids=jnp.asarray([8], jnp.int32),
        context_ids=jnp.asarray([9, 8, 7, 9], jnp.int32),
        tower=FrozenText.of(text),
    )
    dim = backbone.config.embed_dim
    task, query = example_task(way=way, shot=shot, dim=dim, query=queries)
    return task._replace(words=words, logit_scale=jnp.float32(30)), query.features


def start_of(adapter, task, key):
    """Return what the published form needs to begin as ours does."""
    words, rows = task.words, support_rows(task)
    context_key, *_, batch_key = jax.random.split(key, 3 if adapter.name == "cocoop" else 2)
    names = [
        tuple(row[:n]) for row, n in zip(words.ids.tolist(), words.lengths.tolist(), strict=True)
    ]
    return {
        "tower": TextTower(
            load_file(find_model("mini") / "open_clip_model.safetensors"), heads=HEADS
        ),
        "names": names,
        "words": {
            "start_id": int(words.start_id),
            "end_id": int(words.end_id),
            "tail": words.tail_ids.tolist(),
        },
        "batches": [
            np.asarray(draw_batch(rows, adapter.batch, batch_key, jnp.int32(step)).place)
            for step in range(adapter.steps)
        ],
        "context": np.asarray(first_context(words, CONTEXT, adapter.start, context_key)),
    }


def compare(adapter, published, task, query, bound: Bound) -> tuple[Pairs, Pairs]:
    """Time the fit and the queries of one method in turn with its published form."""
    key, dim = jax.random.key(0), query.shape[1]
    params = adapter.init(key, dim)
    fit, predict = jax.jit(adapter.fit), jax.jit(adapter.logits)
    plain = {
        "support": np.asarray(task.support),
        "mask": np.asarray(task.support_mask),
        "logit_scale": float(task.logit_scale),
    }
    settings = start_of(adapter, task, key)
    if adapter.name == "cocoop":
        net = init_meta_net(jax.random.split(key, 3)[1], dim, task.words.tower.build().config.width)
        settings["meta_net"] = jax.tree.map(np.asarray, net)
    state, plain_state = fit(params, task, key), published.fit(plain, **settings)
    plain_query = np.asarray(query)
    np.testing.assert_allclose(
        predict(state, query), published.logits(plain_state, plain_query).detach(), atol=0.1
    )

    def times(run):
        return lambda number: [run() for _ in range(number)]

    return (
        run_pairs(
            times(lambda: published.fit(plain, **settings)),
            times(lambda: jax.block_until_ready(fit(params, task, key))),
            bound,
        ),
        run_pairs(
            times(lambda: published.logits(plain_state, plain_query)),
            times(lambda: jax.block_until_ready(predict(state, query))),
            bound,
        ),
    )


def main() -> None:
    """Time both methods and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--way", type=int, default=100)
    parser.add_argument("--shot", type=int, default=4)
    parser.add_argument("--queries", type=int, default=2, help="a class")
    parser.add_argument("--steps", type=int, default=10)
    add_bound(parser, 3)
    given = parser.parse_args()
    torch.set_num_threads(cores())
    task, query = make_task(given.way, given.shot, given.queries)
    print(f"{given.way} classes, {given.shot} shots, {len(query)} queries, {given.steps} steps")
    print(f"{'':<10}{'step, ms':^36}{'queries, ms':^36}")
    columns = f"{'published':>11}{'ours':>9}{'ratio':>8}{'spread':>8}"
    print(f"{'method':<10}{columns}{columns}", flush=True)
    ratios = []
    for adapter, published in (
        (CoOp(steps=given.steps), published_coop),
        (CoCoOp(steps=given.steps), published_cocoop),
    ):
        line = f"{adapter.name:<10}"
        parts = compare(adapter, published, task, query, bound_of(given))
        for part, share in zip(parts, (given.steps, 1), strict=True):
            theirs, ours = (1e3 * statistics.median(times) / share for times in part)
            line += f"{theirs:>11.2f}{ours:>9.2f}{part.ratio:>8.2f}{part.spread:>8.1%}"
        print(line, flush=True)
        ratios.append(parts[0].ratio)
    print(f"ratio {min(ratios):.2f}")


if __name__ == "__main__":
    main()
