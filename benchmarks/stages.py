"""What each stage costs on this machine, for the table of docs/scaling.md.

    python benchmarks/stages.py

Seconds are of the processor, user and system over all threads, the least of several runs: what the
work costs where nobody else works on the machine. scripts/scaling.py divides them by the cores.
Results are written to benchmarks/results/stages-cpu.json. Towers are not measured here but by
encode.py.
"""

import argparse
import itertools
import json
import os
import resource
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from encode import RESULTS, processor
from extract import make_folder, one_thread
from meta_adapter_step import make_data, our_steps, work
from methods import make_tasks
from tip_search import make_data as features_of

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.adapters.meta_adapter import init_params
from fsclip_jax.adapters.tip_search import TipGrid, search_tip
from fsclip_jax.data.folder import open_folder
from fsclip_jax.episodes.task import Query
from fsclip_jax.features.layout import Rows
from fsclip_jax.features.store import open_bank
from fsclip_jax.features.writing import Description, write_bank
from fsclip_jax.training.checkpoint import Best, Checkpoints, Saved, to_host
from fsclip_jax.training.config import TrainConfig
from fsclip_jax.training.state import init_state

DIM, SHOT, CLASSES = 512, 16, 100


def spent(run, times):
    """Return the least seconds of the processor that a run takes, after one that compiles."""

    def used(count):
        before = resource.getrusage(resource.RUSAGE_SELF)
        for _ in range(count):
            run()
        after = resource.getrusage(resource.RUSAGE_SELF)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    run()
    count = max(1, round(0.2 / max(used(1), 1e-4)))
    return min(used(count) for _ in range(times)) / count


def decoding(pictures, times):
    """Files of 500x375 to the pixels of a tower of 224, in one thread."""
    with tempfile.TemporaryDirectory() as folder:
        size = make_folder(Path(folder), pictures)
        source = open_folder(Path(folder))
        seconds = min(1 / one_thread(source, 224)[2] for _ in range(times))
    return {"decode": {"seconds": seconds, "bytes": size}}


def bank(rows, times):
    """Write a bank, open it, and read its features: a picture each."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1, rows, DIM), np.float32)
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    labels = np.sort(rng.integers(0, CLASSES, rows)).astype(np.int32)
    keys = [f"train/class {label:03d}/picture {i:09d}.jpg" for i, label in enumerate(labels)]
    stored = Rows(features, labels, np.zeros(rows, np.int8), keys, np.full(rows, -1, np.int32))
    about = Description(
        text_features=np.resize(features[0], (CLASSES, features.shape[-1])),
        class_names=[f"class {i}" for i in range(CLASSES)],
        domain_names=[],
        logit_scale=100.0,
        data={"spec": "stages", "version": "1"},
        backbone={"id": "none", "sha256": "none"},
        preprocessing={},
        templates=["{}"],
        extra={},
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "bank"
        write_bank(out, stored, about)
        disk = sum(file.stat().st_size for file in out.iterdir())
        before = resident()
        opened = open_bank(out)
        held = resident() - before
        opening = spent(lambda: open_bank(out), times)
        reading = spent(lambda: opened.select(["train"], on_host=True), times)
    return {
        "open": {"seconds": opening / rows, "resident_bytes": held / rows},
        "read": {"seconds": reading / rows, "disk_bytes": disk / rows},
    }


def resident():
    """Bytes of the process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def training(way, times):
    """An episode of `fsclip train`: the Meta-Adapter's step with two queries a class."""
    data = make_data(way, SHOT, DIM, 2 * way)
    step = our_steps(init_params(jax.random.key(0), DIM), data)
    flops, moved = work(way, SHOT, DIM, 2 * way)
    return {"train": {"seconds": spent(lambda: step(5), times) / 5, "flops": flops, "bytes": moved}}


def methods(times):
    """Fit of a closed form and of a trained cache, prediction and search of a cache."""
    task, _, _ = make_tasks(CLASSES, SHOT, 1, DIM, prompts=1)
    _, _, features, labels = features_of(CLASSES, SHOT, 1000, DIM)
    query = Query(jnp.asarray(features), jnp.asarray(labels), jnp.ones(len(labels), bool))
    found, key = {}, jax.random.key(1)

    def timed(function, *args):
        return spent(lambda: jax.block_until_ready(function(*args)), times)

    for name in ("gda", "tip_adapter_f", "tip_adapter"):
        adapter = get_adapter(name)
        params, fit = adapter.init(jax.random.key(0), DIM), jax.jit(adapter.fit)
        if name != "tip_adapter":
            found[f"fit {name}"] = {"seconds": timed(fit, params, task, key)}
            continue
        seconds = timed(jax.jit(adapter.logits), fit(params, task, key), query.features)
        found["predict"] = {"seconds": seconds / len(labels)}
    seconds = timed(search_tip, task, query, TipGrid())
    return found | {"search": {"seconds": seconds / len(labels)}}


def checkpoint(times):
    """A checkpoint of a Meta-Adapter of width 1,024."""
    state = to_host(init_state(get_adapter("meta_adapter"), 1024, TrainConfig()))
    best = Best(np.array(0, np.int32), np.array(0, np.float32), state.params)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((state, best)))
    steps = itertools.count()
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder))

        def save():
            step = np.array(next(steps), np.int32)
            checkpoints.save(Saved(state._replace(step=step), best))

        return {"checkpoint": {"seconds": spent(save, times), "bytes": size}}


def measure(pictures=600, rows=100_000, way=1000, times=5):
    """Measure every stage."""
    return {
        **decoding(pictures, times),
        **bank(rows, times),
        **training(way, times),
        **methods(times),
        **checkpoint(times),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--note", default="", help="kept with the figures: was the machine quiet?")
    parser.add_argument("--out", type=Path, default=RESULTS / "stages-cpu.json")
    args = parser.parse_args()
    found = {
        "device": processor(),
        "note": args.note,
        "sizes": {"dim": DIM, "shot": SHOT, "classes": CLASSES},
        "stages": measure(),
    }
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
