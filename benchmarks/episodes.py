"""Drawing episodes: a plain loop on the host, class by class, against ours on the device.

Both give indices only. The host loop is the usual one: NumPy draws the classes, then the images
of each class without replacement; with artist families it deals the shuffled families to the two
sides first. Ours draws a batch of episodes in one compiled call.

    python benchmarks/episodes.py               # NumPy on the host
    python benchmarks/episodes.py --torch       # torch.randperm on the host, as often published
    python benchmarks/episodes.py --placements  # a step of training by where the bank lies

The last line is ``ratio X``, the smallest over the sizes. Episodes a second are printed above it;
of placements, milliseconds of a step of the Meta-Adapter, from drawing to the optimiser, with the
bank whole on every device and otherwise, and the megabytes of it on a device. They are of the
processor: four devices are simulated, which share its cores.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from large_bank import write
from pairs import add_bound, bound_of, report, run_pairs

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.devices import data_mesh, on_every_device
from fsclip_jax.episodes.sampler import EpisodeSpec, sample_batch
from fsclip_jax.features.bank import Bank
from fsclip_jax.features.store import open_bank
from fsclip_jax.training.config import TrainConfig
from fsclip_jax.training.loop import Episodes, make_advance
from fsclip_jax.training.placement import Size, bytes_a_device
from fsclip_jax.training.state import init_state, run_keys
from fsclip_jax.training.tasks import training_episodes


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


WAYS, ROWS, CLASSES, DIM, DEVICES, STEPS = (100, 1000), 100_000, 1000, 512, 4, 2


def steps_of(stored, way, placement, mesh):
    """Steps with 16 shots and 2 queries a class, four episodes each."""
    config = TrainConfig(way=way, min_shot=None, batch=DEVICES, steps=10**6)
    drawn = training_episodes(stored, config, np.arange(CLASSES), placement=placement)
    adapter = get_adapter("meta_adapter")
    state, key = on_every_device(
        (init_state(adapter, stored.dim, config), run_keys(config.seed).episodes), mesh
    )
    advance = make_advance(adapter, config, Episodes(*drawn, None, placement), key, mesh)
    done = 0

    def run(n):
        nonlocal state, done
        state, told = advance(state, done, done + n)
        done += n
        jax.block_until_ready((state, told))

    return run


def placements(bound):
    jax.config.update("jax_num_cpu_devices", DEVICES)
    mesh, size = data_mesh(), Size(1, ROWS, DIM, CLASSES)
    print(f"{ROWS} images of {CLASSES} classes, width {DIM}, on {mesh.size} devices")
    print(
        f"{'ways':>4}  {'bank':<10}{'MB each':>9}{'whole ms':>10}{'ms':>9}{'ratio':>8}{'spread':>9}"
    )
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "bank", CLASSES, ROWS, DIM)
        stored = open_bank(Path(folder) / "bank")
        for way in WAYS:
            whole = steps_of(stored, way, "replicated", mesh)
            for placement in ("replicated", "sharded", "host"):
                other = steps_of(stored, way, placement, mesh)
                pairs = run_pairs(whole, other, bound, STEPS, time.process_time)
                each = (1e3 * statistics.median(times) for times in pairs)
                held = bytes_a_device(placement, size, mesh.size) / 1e6
                print(
                    "{:>4}  {:<10}{:>9.1f}{:>10.2f}{:>9.2f}{:>8.2f}{:>9.1%}".format(
                        way, placement, held, *each, pairs.ratio, pairs.spread
                    )
                )
                ratios.append(pairs.ratio)
    print(f"ratio {min(ratios):.2f}")


def drawing(bound, with_torch):
    rows = [
        (case.name, run_pairs(host_batch(case, with_torch), device_batch(case), bound, 1))
        for case in CASES
    ]
    print(f"{'episodes a second':<18}{'host':>12}{'ours':>12}")
    for case, (name, pairs) in zip(CASES, rows, strict=True):
        host, ours = (case.batch / statistics.median(times) for times in pairs)
        print(f"{name:<18}{host:>12.0f}{ours:>12.0f}")
    report(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", action="store_true", help="the host loop uses torch.randperm")
    parser.add_argument("--placements", action="store_true", help="a step by where the bank lies")
    add_bound(parser, 15)
    args = parser.parse_args()
    if args.placements:
        placements(bound_of(args))
    else:
        drawing(bound_of(args), args.torch)


if __name__ == "__main__":
    main()
