"""Runs ``fsclip train`` in forked children and kills them: a program for test_training_command.

    training_child.py KILLS SEED FOLDER WORD ...

The words are the command's, all but its workdir. A child is killed a random while after it wrote
so many rows of its log; the next goes on where it was stopped. A finished run is left alone, and
the next begins in a folder of its own; at the end what is half done is finished. Prints a line a
kill: the number of the folder and the last step of its log.
"""

import sys
from pathlib import Path

from killing import moments, run_and_kill

from fsclip_jax.adapters import catalog
from fsclip_jax.cli.main import main
from fsclip_jax.features import store
from fsclip_jax.training import metrics_log, run

IMPORTED = (catalog, run, store)
"""What no child has to import again."""

LONGEST = 0.03
"""Seconds between a row and a kill: a checkpoint follows some of them."""


def tell_rows(tell) -> None:
    """Tell of every row of the log."""
    write = metrics_log.MetricsLog.write

    def from_here(self, row):
        write(self, row)
        tell()

    metrics_log.MetricsLog.write = from_here


def train(words: list[str], place: Path, rows: int | None, wait: float) -> bool:
    """Train in a child and kill it so many rows later, if at all."""

    def work(tell) -> int:
        tell_rows(tell)
        return main([*words, "--workdir", str(place), "--resume"])

    return run_and_kill(work, rows, wait)


def kill_often(kills: int, seed: int, folder: Path, words: list[str]) -> None:
    """Kill so many, and let the runs be finished."""
    rng, number = moments(seed), 0
    while kills:
        place = folder / f"killed-{number}"
        if train(words, place, rng.randint(1, 9), rng.uniform(0, LONGEST)):
            kills -= 1
            rows = metrics_log.read_metrics(place / metrics_log.METRICS_FILE)
            print(number, rows[-1]["step"] if rows else -1, flush=True)
        else:
            number += 1
    for left in range(number + 1):
        assert not train(words, folder / f"killed-{left}", None, 0.0)


if __name__ == "__main__":
    kill_often(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
