"""Drawing episodes: a plain loop on the host, class by class, against ours on the device.

Both give indices only. The host loop is the usual one: NumPy draws the classes, then the images
of each class without replacement; with artist families it deals the shuffled families to the two
sides first. Ours draws a batch of episodes in one compiled call.

    python benchmarks/episodes.py               # NumPy on the host
    python benchmarks/episodes.py --torch       # torch.randperm on the host, as often published

The last line is ``ratio X``, the smallest over the sizes. Episodes a second are printed above it.
"""

import argparse
import os
import statistics
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from pairs import add_bound, bound_of, report, run_pairs

from fsclip_jax.episodes.sampler import EpisodeSpec, sample_batch
from fsclip_jax.features.bank import Bank


class Case(NamedTuple):
    """A bank, an episode, and how many episodes a call draws."""

    name: str
    classes: int
    size: int
    families: int
    spec: EpisodeSpec
    batch: int


CASES = [
    Case("5-way", 1000, 1300, 0, EpisodeSpec(5, 5, 15), 256),
    Case("100-way", 1000, 1300, 0, EpisodeSpec(100, 16, 15), 32),
    Case("1000-way", 1000, 1300, 0, EpisodeSpec(1000, 16, 15), 4),
    Case("50-way families", 500, 11, 4, EpisodeSpec(50, 4, 4), 64),
]


def make_bank(case):
    n = case.classes * case.size
    ids = np.arange(case.size)
    domains = np.sort(ids % case.families) if case.families else np.full(case.size, -1)
    return Bank(
        features=jnp.zeros((1, n, 1)),
        labels=jnp.repeat(jnp.arange(case.classes), case.size),
        starts=jnp.arange(case.classes) * case.size,
        sizes=jnp.full(case.classes, case.size),
        domains=jnp.asarray(np.tile(domains, case.classes), jnp.int32),
        text=jnp.zeros((case.classes, 1)),
        logit_scale=jnp.float32(100),
    )


def host_episode(draw, shuffle, case, domains):
    """Draw one episode: ``draw(n, k)`` gives k of n without replacement, in random order."""
    shot, query = case.spec.shot, case.spec.query
    rows = []
    for label in draw(case.classes, case.spec.way):
        start = label * case.size
        if not case.families:
            rows.append(start + draw(case.size, shot + query))
            continue
        order = shuffle(case.size)
        family = domains[start + order]
        support_side = shuffle(case.families)[: min(shot, case.families - 1)]
        chosen = np.isin(family, support_side)
        rows.append((start + order[chosen][:shot], start + order[~chosen][:query]))
    return rows


def host_batch(case, with_torch):
    domains = np.asarray(make_bank(case).domains)
    if with_torch:
        import torch

        torch.set_num_threads(1)

        def shuffle(n):
            return torch.randperm(n).numpy()

        def draw(n, k):
            return shuffle(n)[:k]
    else:
        rng = np.random.default_rng(0)
        shuffle = rng.permutation

        def draw(n, k):
            return rng.choice(n, k, replace=False)

    return lambda n: [host_episode(draw, shuffle, case, domains) for _ in range(n * case.batch)]


def device_batch(case):
    bank, keys = make_bank(case), iter(jax.random.split(jax.random.key(0), 1000))

    def run(n):
        some = [sample_batch(next(keys), bank, case.spec, case.size, case.batch) for _ in range(n)]
        jax.block_until_ready(some)

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", action="store_true", help="the host loop uses torch.randperm")
    add_bound(parser, 15)
    args = parser.parse_args()
    rows = [
        (case.name, run_pairs(host_batch(case, args.torch), device_batch(case), bound_of(args), 1))
        for case in CASES
    ]
    print(f"{'episodes a second':<18}{'host':>12}{'ours':>12}")
    for case, (name, pairs) in zip(CASES, rows, strict=True):
        host, ours = (case.batch / statistics.median(times) for times in pairs)
        print(f"{name:<18}{host:>12.0f}{ours:>12.0f}")
    report(rows)


if __name__ == "__main__":
    main()
