"""Meta-training from a bank that is larger than the memory: time of a step, and what it keeps.

A synthetic bank of the size of ImageNet-21k's is written to disk, its classes spread over all
shards, and `fsclip train` draws episodes of all of its classes from there.

    python benchmarks/large_bank.py --folder /scratch              # 14 million rows, 7.3 GB
    python benchmarks/large_bank.py --rows 100000 --classes 500 --folder /tmp   # to see it work

The bank is removed in the end. The last line is ``resident X``, the most memory in GB.
"""

import argparse
import json
import resource
import shutil
import time
from pathlib import Path

import numpy as np

from fsclip_jax.cli.main import main as fsclip
from fsclip_jax.features.layout import Rows, partial_name
from fsclip_jax.features.writing import Description, finish_bank, write_shard

SHARD = 100_000


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def write(path, classes, rows, dim):
    """Write the bank shard by shard; row i is of class ``i % classes``.

    Images and texts lie as far from their class that not all is right from the start.
    """
    rng = np.random.default_rng(0)
    centres = unit(rng.standard_normal((classes, dim), np.float32))
    noise = rng.standard_normal((SHARD + dim, dim), np.float32) * (2 / np.sqrt(dim))
    folder = partial_name(path)
    folder.mkdir(parents=True)
    for index, low in enumerate(range(0, rows, SHARD)):
        ids = np.arange(low, min(low + SHARD, rows))
        labels = (ids % classes).astype(np.int32)
        turned = np.roll(noise[index % dim :][: len(ids)], index, axis=1)
        zeros = np.zeros(len(ids), np.int8)
        some = Rows(
            unit(centres[labels] + turned)[None].astype(np.float16),
            labels, zeros, [str(i) for i in ids], np.full(len(ids), -1, np.int32),
        )  # fmt: skip
        write_shard(folder, index, some, "float16", [])
    about = Description(
        text_features=unit(centres + 1.5 * unit(rng.standard_normal((classes, dim)))),
        class_names=[f"class {i}" for i in range(classes)],
        domain_names=[],
        logit_scale=100.0,
        data={"spec": "synthetic"},
        backbone={"id": "synthetic"},
        preprocessing={},
        templates=[],
        extra={},
    )
    finish_bank(folder, path, about, "float16")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="on a disk that has the room")
    parser.add_argument("--classes", type=int, default=21_841)
    parser.add_argument("--rows", type=int, default=14_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--shot", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--placement", default="auto")
    given = parser.parse_args()
    place = given.folder / "large-bank"
    began = time.perf_counter()
    try:
        write(place / "bank", given.classes, given.rows, given.dim)
        written = time.perf_counter()
        print(f"written in {written - began:.0f} s")
        words = ["train", "--data", f"bank:{place / 'bank'}", "--workdir", str(place / "run")]
        words += ["--classes", "all", "--way", str(given.classes), "--shot", str(given.shot)]
        words += ["--query", "1", "--batch", "1", "--val-episodes", "1"]
        words += ["--steps", str(given.steps), "--steps-per-dispatch", "5"]
        code = fsclip([*words, "--bank-placement", given.placement])
        log = (place / "run" / "metrics.jsonl").read_text().splitlines()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    rows = [json.loads(line) for line in log]
    losses = [row["loss"] for row in rows if row.get("loss") is not None]
    print(
        f"exit code {code}; loss {losses[0]:.3f} in the first steps, {losses[-1]:.3f} in the last"
    )
    print(f"trained in {time.perf_counter() - written:.0f} s")
    print(f"resident {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f}")


if __name__ == "__main__":
    main()
