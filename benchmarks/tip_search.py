"""The search of Tip-Adapter's alpha and beta: the published loop in PyTorch against ours.

The published loop computes the affinity of all queries and all keys, its exponential, the product
with the one-hot labels and the accuracy at each of 4,000 settings. Ours does the grid in one
compiled program. The best setting of the two must be the same.

    python benchmarks/tip_search.py             # times 20 settings of the loop, and scales up
    python benchmarks/tip_search.py --whole     # times all of them, minutes

The features are synthetic: a shared direction, a class direction and noise, as CLIP's are. The
last line is ``ratio X``. PyTorch must be installed.
"""

import argparse
import os
import time
from functools import partial

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from pairs import Pairs, add_bound, bound_of, report, run_pairs, seconds

from fsclip_jax.adapters.tip_search import TipGrid, search_tip
from fsclip_jax.episodes.task import Query, Task
from fsclip_jax.machine import cores

LOGIT_SCALE = 100.0


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def make_data(way, shot, queries, dim, seed=0):
    """Make features with the geometry of CLIP's: image cosines near 0.6, text to image near 0.3."""
    rng = np.random.default_rng(seed)

    def noise(*shape, scale):
        return rng.standard_normal((*shape, dim)) * scale / np.sqrt(dim)

    shared, classes = noise(scale=1.0), noise(way, scale=0.5)
    labels = rng.integers(0, way, queries).astype(np.int32)
    support = unit(shared + classes[:, None] + noise(way, shot, scale=0.8))
    features = unit(shared + classes[labels] + noise(queries, scale=0.8))
    text = unit(0.4 * shared + 0.3 * classes + noise(way, scale=1.0))
    return support, text, features, labels


def published_program(support, text, features, labels):
    """Return the loop's body in the published order of operations, and the best of a grid."""
    import torch

    way, shot, dim = support.shape
    features, labels = torch.tensor(features), torch.tensor(labels).long()
    cache_keys = torch.tensor(support.reshape(-1, dim)).T.contiguous()
    cache_values = torch.nn.functional.one_hot(
        torch.arange(way, device=labels.device).repeat_interleave(shot)
    ).float()
    clip_logits = LOGIT_SCALE * features @ torch.tensor(text).T

    def cache(beta, affinity):
        return (-(beta - beta * affinity)).exp() @ cache_values

    def score(alpha, cache_logits):
        logits = clip_logits + cache_logits * alpha
        predicted = logits.topk(1, 1).indices[:, 0]
        return 100 * (predicted == labels).float().sum().item() / len(labels)

    def accuracy(alpha, beta):
        return score(alpha, cache(beta, features @ cache_keys))

    def best(grid):
        # Only to compare the outcome: the same numbers, each product computed once.
        affinity = features @ cache_keys
        top, setting = 0.0, (0.0, 0.0)
        for beta in grid.betas:
            cache_logits = cache(beta, affinity)
            for alpha in grid.alphas:
                value = score(alpha, cache_logits)
                if value > top:
                    top, setting = value, (float(alpha), float(beta))
        return top, setting

    return accuracy, best


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--way", type=int, default=100)
    parser.add_argument("--shot", type=int, default=16)
    parser.add_argument("--queries", type=int, default=1649)
    parser.add_argument("--dim", type=int, default=512)
    add_bound(parser, 7)
    parser.add_argument("--settings", type=int, default=20, help="of the loop that are timed")
    parser.add_argument("--whole", action="store_true", help="time the whole loop, once")
    parser.add_argument("--threads", type=int, default=cores())
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)

    grid = TipGrid()
    settings = [(alpha, beta) for beta in grid.betas for alpha in grid.alphas]
    data = make_data(args.way, args.shot, args.queries, args.dim)
    support, text, features, labels = map(jnp.asarray, data)
    task = Task(support, jnp.ones(support.shape[:2], bool), text, jnp.float32(LOGIT_SCALE))
    query = Query(features, labels, jnp.ones(labels.shape, bool))
    accuracy, best = published_program(*data)

    start = time.perf_counter()
    correct = np.asarray(search_tip(task, query, grid))
    print(f"ours, the first time, with the compile: {time.perf_counter() - start:.2f} s")
    beta, alpha = np.unravel_index(correct.argmax(), correct.shape)
    ours_best, ours_top = (grid.alphas[alpha], grid.betas[beta]), 100 * correct.max() / args.queries
    top, setting = best(grid)
    print(f"published best: alpha, beta = {setting}, {top:.3f} %")
    print(f"ours, best:     alpha, beta = {ours_best}, {ours_top:.3f} %")
    if ours_best != setting:
        raise SystemExit("the best settings differ")

    def published(times, settings=settings):
        return [accuracy(*setting) for _ in range(times) for setting in settings]

    def ours(times):
        for _ in range(times):
            jax.block_until_ready(search_tip(task, query, grid))

    if args.whole:
        report([("whole grid", Pairs([seconds(published, 1)], [seconds(ours, 3)]))])
        return
    timed = settings[:: max(1, len(settings) // args.settings)]
    pairs = run_pairs(partial(published, settings=timed), ours, bound_of(args), 1)
    scaled = [t * len(settings) / len(timed) for t in pairs.published]
    print(f"published: {len(timed)} of {len(settings)} settings timed, scaled up")
    report([("whole grid", Pairs(scaled, pairs.ours))])


if __name__ == "__main__":
    main()
