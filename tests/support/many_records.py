"""Extracts many tiny records and prints the most memory that took: run by a test.

many_records.py OUT COUNT
"""

import sys
import time
from pathlib import Path

import numpy as np
from memory import peak_kib
from PIL import Image
from tiny_clip import tiny_backbone

from fsclip_jax.clip.config import VitConfig
from fsclip_jax.data.source import ImageSource
from fsclip_jax.features.extract import extract
from fsclip_jax.features.shards import ExtractSettings

SIDE = 4


def load(index: int) -> Image.Image:
    """Return an image that is one colour."""
    return Image.new("RGB", (SIDE, SIDE), (index & 255, index >> 8 & 255, index >> 16))


def main(out: Path, count: int) -> None:
    """Extract so many records."""
    clip = tiny_backbone(vision=VitConfig(SIDE, SIDE, 8, 1, 1, 8, embed_dim=8))
    source = ImageSource(
        spec="many",
        version="1",
        class_names=("even", "odd"),
        labels=(np.arange(count) % 2).astype(np.int32),
        keys=tuple(f"records/{index:07d}" for index in range(count)),
        splits=np.zeros(count, np.int8),
        templates=("{}",),
        load=load,
    )
    settings = ExtractSettings(shard=16384, batch=16384, workers=0)
    began = time.perf_counter()
    bank = extract(source, clip, out, settings)
    seconds = time.perf_counter() - began
    print(len(bank.labels), peak_kib(), f"{seconds:.0f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
