"""Classify pictures by the classifier in this folder: python predictor.py PICTURE.

Needs `pip install jax flatbuffers pillow` and nothing else. Prints a line for each picture: its
path, the most probable class and its probability, with tabs between; --top K lists the K best.
"""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.export
import numpy as np
from PIL import Image, ImageOps

BATCH = 16
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


def read_picture(path: str) -> Image.Image:
    """Read a picture as RGB: upright, transparency laid on white, 16-bit greys as 8 bits."""
    with Image.open(path) as file:
        file.load()
        image: Image.Image = file
        with contextlib.suppress(Exception):  # a picture with broken EXIF data is still a picture
            image = ImageOps.exif_transpose(file)
        if image.has_transparency_data:
            canvas = Image.new("RGBA", image.size, "white")
            canvas.alpha_composite(image.convert("RGBA"))
            return canvas.convert("RGB")
        if image.mode.startswith("I"):
            grey = (np.asarray(image, np.int64) >> 8).clip(0, 255)
            image = Image.fromarray(grey.astype(np.uint8))
        return image.convert("RGB")


def cut(image: Image.Image, about: dict[str, Any]) -> np.ndarray:
    """Resize and crop a picture to the square that the image tower takes, uint8 [size size 3]."""
    size = about["image_size"]
    short = min(image.size)
    width, height = (side * size // short for side in image.size)
    if about["fit"] == "squash":
        width = height = size
    if image.size != (width, height):
        image = image.resize((width, height), FILTERS[about["resample"]])

    def start(margin: int) -> int:
        return margin // 2 if about["odd_margin"] == "floor" else round(margin / 2)

    left, top = start(width - size), start(height - size)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def predict(folder: Path, paths: list[str], failed: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the path and the probabilities of every picture that can be read.

    The others are told on the error stream and appended to `failed`.
    """
    about = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
    artifact = bytearray((folder / "classifier.stablehlo").read_bytes())
    classify = jax.jit(jax.export.deserialize(artifact).call)
    size = about["image_size"]
    for low in range(0, len(paths), BATCH):
        read: list[str] = []
        batch = np.zeros((BATCH, size, size, 3), np.uint8)
        for path in paths[low : low + BATCH]:
            try:
                batch[len(read)] = cut(read_picture(path), about)
                read.append(path)
            except Exception as error:
                failed.append(path)
                print(f"{path} cannot be read: {error}", file=sys.stderr)
        yield from zip(read, np.asarray(classify(batch)), strict=False)


def main() -> int:
    """Read the command line, print the lines, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--top", type=int, default=1, help="classes to list, 1 unless given")
    here = Path(__file__).parent
    parser.add_argument("--model", type=Path, default=here, help="folder of the classifier")
    given = parser.parse_args()
    try:
        import flatbuffers  # noqa: F401  (what jax.export reads an artifact by)
    except ImportError:
        print("flatbuffers is missing: pip install flatbuffers", file=sys.stderr)
        return 2
    names = json.loads((given.model / "classifier.json").read_text("utf-8"))["class_names"]
    failed: list[str] = []
    for path, chances in predict(given.model, given.pictures, failed):
        best = np.argsort(-chances, kind="stable")[: max(1, given.top)]
        print("\t".join([path, *(f"{names[i]}\t{chances[i]:.4f}" for i in best)]), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
