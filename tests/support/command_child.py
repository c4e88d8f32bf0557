"""Runs a command in forked children and kills them: a program for test_commands_killed.

    command_child.py KILLS SEED WORD ...

The words are the command's, ``--out`` with a folder among them. JAX is imported once, here, and a
child is forked before any backend is there. A child is killed a random while after it kept a random
part of its work; the next goes on. Where one was done before it was killed its folder gets a name
of its own, and the next begins anew. Prints a line a kill: the parts that were there.
"""

import sys
from pathlib import Path

from killing import moments, run_and_kill, telling

from fsclip_jax import interim
from fsclip_jax.adapters import catalog
from fsclip_jax.cli.main import main
from fsclip_jax.clip.load import find_model
from fsclip_jax.clip.tokenizer import load_tokenizer
from fsclip_jax.detection import compare
from fsclip_jax.scenes import build
from fsclip_jax.segmentation import run

IMPORTED = (catalog, compare, build, run)
"""What no child has to import again."""

MOST_PARTS, LONGEST = 8, 0.3
"""Parts after which a child is killed, and seconds that pass then, at most."""


def run_words(words: list[str], parts: int | None, wait: float) -> bool:
    """Run the command in a child and kill it so many new parts later, if at all."""

    def work(tell) -> int:
        telling(interim, "write_file", tell)
        return main(words)

    return run_and_kill(work, parts, wait)


def kill_often(kills: int, seed: int, words: list[str]) -> None:
    """Kill so many, and let the last run be finished."""
    load_tokenizer(find_model("mini"), context_length=16)
    out = Path(words[words.index("--out") + 1])
    rng, done = moments(seed), 0
    while True:
        last = not kills
        after = None if last else rng.randint(1, MOST_PARTS)
        if run_words(words, after, rng.uniform(0, LONGEST)):
            kills -= 1
            parts = [*out.parent.rglob("*.part")]
            print("killed", len(parts), flush=True)
        # A kill between the result and its pages leaves parts, and the next run writes the pages.
        if out.exists() and not [*out.glob(".*")]:
            out.rename(out.with_name(f"{out.name}-{done}"))
            done += 1
            if last:
                return


if __name__ == "__main__":
    kill_often(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
