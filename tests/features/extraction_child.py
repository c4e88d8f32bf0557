"""Runs extractions in forked children and kills them: a program for test_features_killed.py.

JAX is imported once, here; a child is forked before any backend is there, so that a run that is
killed half-way costs little more than what it does until then.

    extraction_child.py FOLDER KILLS SEED

Extracts the banks ``a`` and ``b`` below FOLDER from the mini CLIP, kills the children at random
moments until KILLS of them were killed, taking a new name whenever a bank was done, then finishes
what is left, and makes the bank ``whole`` in peace. Prints every kill and the shards found.
"""

import dataclasses
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import jax
import numpy as np
from jax._src import xla_bridge
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


def run(place: Path, source: ImageSource) -> None:
    """Extract in a child that is left alone."""
    assert not run_and_kill(place, source, "image_encoder", None)


def run_and_kill(place: Path, source: ImageSource, since: str, wait: float | None) -> bool:
    """Extract in a child and kill it; say if it was not done before.

    Args:
        place: the bank.
        source: the images.
        since: name of the function of ``shards`` whose first call starts the clock.
        wait: seconds until the kill; None leaves it alone.
    """
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(ready)
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115 (it ends with the process)
            clip = load_module.load_clip("mini")
            step = getattr(shards_module, since)

            def from_here(*args, **options):
                os.write(tell, b"x")
                return step(*args, **options)

            setattr(shards_module, since, from_here)
            extract(source, clip, place, SETTINGS)
            code = 0
        except Exception:
            traceback.print_exc(file=sys.stdout)
        finally:
            sys.stdout.flush()
            os._exit(code)
    os.close(tell)
    os.read(ready, 1)
    if wait is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ready)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the extraction failed"
    return os.WIFSIGNALED(status)


def warm_up() -> None:
    """Do here, once, what loading the mini CLIP does without a backend."""
    source = load_module.read_source(load_module.find_model("mini"))
    shapes = load_module.abstract_clip(source.config)
    load_module.read_source = lambda _: source
    load_module.abstract_clip = lambda _: shapes
    assert not xla_bridge.backends_are_initialized()


def main(folder: Path, kills: int, seed: int) -> None:
    """Kill so many."""
    jax.config.update("jax_compilation_cache_dir", str(folder / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    warm_up()
    source, moments = some_emoji(PAUSE), random.Random(seed)
    names = {"a": 0, "b": 0}
    done = 0
    while done < kills:
        kind = "ab"[done % 2]
        place = folder / f"{kind}{names[kind]}"
        # Mostly while shards are written; now and then before the first one is.
        since = moments.choice(["image_encoder", "write_shard", "write_shard", "write_shard"])
        wait = moments.uniform(0, LONGEST)
        killed = run_and_kill(place, source, since, wait)
        shards = len(list(partial_name(place).glob("shard-*.safetensors")))
        print(place.name, since, f"{wait:.3f}", "killed" if killed else "done", shards, flush=True)
        done += killed
        names[kind] += place.exists()
    for kind, number in names.items():  # finish what is half done, and make one in peace
        run(folder / f"{kind}{number}", source)
    run(folder / "whole", source)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
