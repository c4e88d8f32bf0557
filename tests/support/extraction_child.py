"""Runs extractions in forked children and kills them: a program for test_features_killed.py.

JAX is imported once, here; a child is forked before any backend is there, so that a run that is
killed half-way costs little more than what it does until then.

    extraction_child.py KILLS SEED FOLDER

Extracts the banks ``a`` and ``b`` below FOLDER from the mini CLIP, kills the children at random
moments until KILLS of them were killed, taking a new name whenever a bank was done, then finishes
what is left, and makes the bank ``whole`` in peace. Prints every kill and the shards found.
"""

import dataclasses
import sys
import time
from pathlib import Path

import jax
import numpy as np
from killing import moments, run_and_kill, telling
from PIL import Image

from fsclip_jax.clip import load as load_module
from fsclip_jax.data.emoji import open_emoji
from fsclip_jax.data.source import ImageSource
from fsclip_jax.features import shards as shards_module
from fsclip_jax.features.extract import extract
from fsclip_jax.features.layout import partial_name
from fsclip_jax.features.shards import ExtractSettings

SETTINGS = ExtractSettings(views=2, shard=6, batch=4, workers=0)
IMAGES = 90
PAUSE = 0.005
LONGEST = 0.4  # seconds


@dataclasses.dataclass(frozen=True)
class SlowLoad:
    """Pictures of the emoji, one after another."""

    source: ImageSource
    pause: float

    def __call__(self, index: int) -> Image.Image:
        time.sleep(self.pause)
        return self.source.load(index)


def some_emoji(pause: float = 0.0) -> ImageSource:
    """Return the first emoji only."""
    emoji = open_emoji()
    classes = int(emoji.labels[IMAGES - 1]) + 1
    return dataclasses.replace(
        emoji,
        class_names=emoji.class_names[:classes],
        labels=emoji.labels[:IMAGES],
        keys=emoji.keys[:IMAGES],
        splits=emoji.splits[:IMAGES],
        domains=np.asarray(emoji.domains)[:IMAGES],
        load=SlowLoad(emoji, pause),
    )


def run(
    place: Path, source: ImageSource, since: str = "image_encoder", wait: float | None = None
) -> bool:
    """Extract in a child and kill it; say if it was not done before.

    Args:
        place: the bank.
        source: the images.
        since: name of the function of ``shards`` whose first call starts the clock.
        wait: seconds until the kill; None leaves it alone.
    """

    def work(tell) -> None:
        clip = load_module.load_clip("mini")
        telling(shards_module, since, tell)
        extract(source, clip, place, SETTINGS)

    return run_and_kill(work, None if wait is None else 1, wait or 0.0)


def warm_up() -> None:
    """Do here, once, what loading the mini CLIP does without a backend."""
    source = load_module.read_source(load_module.find_model("mini"))
    shapes = load_module.abstract_clip(source.config)
    load_module.read_source = lambda _: source
    load_module.abstract_clip = lambda _: shapes


def main(kills: int, seed: int, folder: Path) -> None:
    """Kill so many."""
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warm_up()
    source, chance = some_emoji(PAUSE), moments(seed)
    names = {"a": 0, "b": 0}
    done = 0
    while done < kills:
        kind = "ab"[done % 2]
        place = folder / f"{kind}{names[kind]}"
        # Mostly while shards are written; now and then before the first one is.
        since = chance.choice(["image_encoder", "write_shard", "write_shard", "write_shard"])
        wait = chance.uniform(0, LONGEST)
        killed = run(place, source, since, wait)
        shards = len(list(partial_name(place).glob("shard-*.safetensors")))
        print(place.name, since, f"{wait:.3f}", "killed" if killed else "done", shards, flush=True)
        done += killed
        names[kind] += place.exists()
    for kind, number in names.items():  # finish what is half done, and make one in peace
        assert not run(folder / f"{kind}{number}", source)
    assert not run(folder / "whole", source)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
