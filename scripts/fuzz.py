"""Feed a reader spoilt files: python scripts/fuzz.py TARGET --runs 100000.

The readers and the honest files to start from are in ``tests/support/fuzz_targets.py``. Each run
takes an honest file, spoils it, and reads it: the reader takes it or raises a ``UserError``.
Anything else, a warning too, ends the run and leaves the file behind, as do ten seconds or 2 GB for
a file.

With ``--atheris`` (pip install atheris) the spoiling is led by which lines of the readers are
reached; without it is random, and the same for the same ``--seed``.
"""

import argparse
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from fuzz_inputs import spoil
from fuzz_targets import TARGETS
from fuzz_watch import attempt
from memory import peak_kib

SECONDS, BYTES = 10, 2 << 30
READERS = [
    "fsclip_jax.features.store",
    "fsclip_jax.features.bank",
    "fsclip_jax.report.rows",
    "fsclip_jax.report.details",
    "fsclip_jax.report.stored",
    "fsclip_jax.report.schema1",
    "fsclip_jax.cli.parsing",
    "fsclip_jax.clip.pickles",
    "fsclip_jax.clip.opcodes",
    "fsclip_jax.adapters.checkpoint",
    "fsclip_jax.data.coco_files",
    "fsclip_jax.data.coop",
    "fsclip_jax.data.pictures",
    "fsclip_jax.data.split_file",
    "fsclip_jax.evaluation.shot_files",
    "fsclip_jax.features.import_file",
    "fsclip_jax.features.importing",
    "fsclip_jax.features.npz",
    "fsclip_jax.pixels",
    "fsclip_jax.prediction.formats",
    "fsclip_jax.prediction.journal",
    "fsclip_jax.prediction.table",
    "fsclip_jax.report.suite",
]


def run_random(name: str, runs: int, seed: int, folder: Path) -> None:
    """Spoil at random."""
    target, rng = TARGETS[name], random.Random(seed)
    seeds = target.seeds(folder)
    for data in seeds:  # what is imported at the first file is not counted
        attempt(target, folder, data)
    taken, worst, began = 0, 0.0, time.monotonic()
    signal.signal(signal.SIGALRM, _late)
    for run in range(runs):
        data = spoil(rng.choice(seeds), rng, seeds)
        at = time.monotonic()
        signal.alarm(SECONDS)
        try:
            taken += attempt(target, folder, data)
        except BaseException:
            Path(f"crash-{name}").write_bytes(data)
            print(f"{name}: input {run} of seed {seed} is kept as crash-{name}", file=sys.stderr)
            raise
        finally:
            signal.alarm(0)
        worst = max(worst, time.monotonic() - at)
    spent = time.monotonic() - began
    peak = peak_kib() >> 10
    print(
        f"{name}: {runs} files, {taken} of them taken, no crash; {spent:.0f} s, "
        f"slowest {worst:.2f} s, peak {peak} MB"
    )


class TooLongError(BaseException):
    """No reader catches it, whatever it takes for a broken file."""


def _late(*_args: object) -> None:
    raise TooLongError(f"{SECONDS} seconds for one file")


def run_atheris(name: str, runs: int, seed: int, folder: Path) -> None:
    """Let libFuzzer choose what to keep on spoiling; does not return."""
    import importlib

    import atheris

    with atheris.instrument_imports(include=READERS):
        for reader in READERS:
            importlib.import_module(reader)
    target = TARGETS[name]
    seeds = target.seeds(folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for place, data in enumerate(seeds):
        (corpus / str(place)).write_bytes(data)

    def mutate(data: bytes, longest: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.random() < 0.5:
            return spoil(data, rng, seeds)[:longest]
        changed: bytes = atheris.Mutate(data, longest)
        return changed

    flags = [f"-runs={runs}", f"-seed={seed + 1}", f"-timeout={SECONDS}", "-max_len=65536"]
    flags += [f"-rss_limit_mb={BYTES >> 20}", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup(
        [sys.argv[0], *flags, str(corpus)],
        lambda data: attempt(target, folder, data) and None,
        custom_mutator=mutate,
    )
    atheris.Fuzz()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--atheris", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    shared = Path("/dev/shm")  # in memory: a disk would take longer than the readers
    place = shared if shared.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        run = run_atheris if given.atheris else run_random
        run(given.target, given.runs, given.seed, Path(folder))


if __name__ == "__main__":
    main()
