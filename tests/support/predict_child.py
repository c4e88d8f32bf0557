"""Runs ``fsclip predict`` in forked children and kills them: a program for test_predict_command.

    predict_child.py KILLS SEED OUT WORD ...

The words are the command's. JAX is imported once, here, and a child is forked before any backend
is there. Writing is slowed down, so that the kills meet it. A child is killed a random while after
it said that it wrote a row; the next goes on where it was stopped. A finished table gets a name of
its own beside OUT, and the next begins anew. Prints a line a kill: the rows that were there.
"""

import sys
import time
from pathlib import Path

from killing import moments, run_and_kill

from fsclip_jax.adapters import catalog
from fsclip_jax.cli.main import main
from fsclip_jax.clip.load import find_model
from fsclip_jax.clip.tokenizer import load_tokenizer
from fsclip_jax.features import extract
from fsclip_jax.prediction import run, table

IMPORTED = (catalog, extract, run)
"""What no child has to import again."""

FASTEST = 0.002
"""Seconds between two rows."""


def write_slowly(tell) -> None:
    """Write rows one by one and say so."""
    add = table.PredictionTable.add

    def slow(self, rows):
        for row in rows:
            add(self, [row])
            tell()
            time.sleep(FASTEST)

    table.PredictionTable.add = slow


def run_words(words: list[str], rows: int | None, wait: float) -> bool:
    """Run the command in a child and kill it so many rows later, if at all."""

    def work(tell) -> int:
        write_slowly(tell)
        return main(words)

    return run_and_kill(work, rows, wait)


def kill_often(kills: int, seed: int, out: Path, words: list[str]) -> None:
    """Kill so many, and let the last table be finished."""
    load_tokenizer(find_model("mini"), context_length=16)
    rng, tables = moments(seed), 0
    rows = out.with_name(f".{out.name}.rows")  # which Parquet grows in
    while True:
        last = not kills
        if run_words(words, None if last else rng.randint(0, 30), rng.uniform(0, 2 * FASTEST)):
            kills -= 1
            grown = next((file for file in (rows, out) if file.exists()), None)
            print("killed", len(grown.read_bytes().splitlines()) if grown else 0, flush=True)
        # A kill between the last write and the exit leaves a whole table, which a further run
        # would rightly refuse to overwrite.
        if out.exists() and not out.with_name(f".{out.name}.unfinished").exists():
            out.rename(out.with_name(f"table-{tables}{out.suffix}"))
            tables += 1
            if last:
                return


if __name__ == "__main__":
    kill_often(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
