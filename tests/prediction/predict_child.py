"""Runs ``fsclip predict`` in forked children and kills them: a program for test_predict_command.

    predict_child.py OUT KILLS SEED WORD ...

The words are the command's. JAX is imported once, here, and a child is forked before any backend
is there. Writing is slowed down, so that the kills meet it. A child is killed a random while after
it said that it wrote a row; the next goes on where it was stopped. A finished table gets a name of
its own beside OUT, and the next begins anew. Prints a line a kill: the rows that were there.
"""

import contextlib
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

from jax._src import xla_bridge

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


def write_slowly(tell: int) -> None:
    """Write rows one by one and say so."""
    add = table.PredictionTable.add

    def slow(self, rows):
        for row in rows:
            add(self, [row])
            os.write(tell, b"x")
            time.sleep(FASTEST)

    table.PredictionTable.add = slow


def run_and_kill(words: list[str], rows: int | None, wait: float) -> bool:
    """Run in a child and kill it so many rows later, if at all; say if it was killed."""
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(ready)
            quiet = open(os.devnull, "w")  # noqa: SIM115 (it ends with the process)
            with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
                write_slowly(tell)
                code = main(words)
        except Exception:
            traceback.print_exc(file=sys.stdout)
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(tell)
    while rows is None or rows > 0:
        if not os.read(ready, 1):
            break  # it has ended
        rows = None if rows is None else rows - 1
    if rows is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ready)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the command failed"
    return os.WIFSIGNALED(status)


def kill_often(out: Path, kills: int, seed: int, words: list[str]) -> None:
    """Kill so many, and let the last table be finished."""
    load_tokenizer(find_model("mini"), context_length=16)
    assert not xla_bridge.backends_are_initialized()
    rng, tables = random.Random(seed), 0
    while True:
        last = not kills
        if run_and_kill(words, None if last else rng.randint(0, 30), rng.uniform(0, 2 * FASTEST)):
            kills -= 1
            print("killed", len(out.read_bytes().splitlines()) if out.exists() else 0, flush=True)
        # A kill between the last write and the exit leaves a whole table, which a further run
        # would rightly refuse to overwrite.
        if out.exists() and not out.with_name(f".{out.name}.unfinished").exists():
            out.rename(out.with_name(f"table-{tables}.csv"))
            tables += 1
            if last:
                return


if __name__ == "__main__":
    kill_often(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
