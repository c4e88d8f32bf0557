"""Classify pictures by the classifier in this folder: python predictor.py PICTURE.

Needs `pip install jax flatbuffers pillow` and nothing else. Prints a line for each picture: its
path, the most probable class and its probability, with tabs between; --top K lists the K best.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.export
import numpy as np

from fsclip_jax.pixels import cut, hush_pillow, open_image, require_regular, to_rgb, upright
from fsclip_jax.printable import escaped, inert, printable

BATCH = 16


def read_picture(path: str, about: dict[str, Any]) -> np.ndarray:
    """Read a picture upright and on white, cut to what the image tower takes."""
    require_regular(path)
    with open(path, "rb") as file, open_image(file) as image:
        image.load()
        picture = to_rgb(upright(image))
    return cut(picture, *(about[key] for key in ("image_size", "fit", "resample", "odd_margin")))


def predict(folder: Path, paths: list[str], failed: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield path and probabilities of every picture; unreadable ones are told, put in `failed`."""
    about = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
    artifact = bytearray((folder / "classifier.stablehlo").read_bytes())
    classify = jax.jit(jax.export.deserialize(artifact).call)
    size = about["image_size"]
    for low in range(0, len(paths), BATCH):
        read: list[str] = []
        batch = np.zeros((BATCH, size, size, 3), np.uint8)
        for path in paths[low : low + BATCH]:
            try:
                batch[len(read)] = read_picture(path, about)
                read.append(path)
            except Exception as error:
                failed.append(path)
                print(printable(f"{path} cannot be read: {error}"), file=sys.stderr)
        yield from zip(read, np.asarray(classify(batch)), strict=False)


def main() -> int:
    """Read the command line, print the lines, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--top", type=int, default=1, help="classes to list, 1 unless given")
    parser.add_argument("--safe-csv", action="store_true", help="put ' before formulas in names")
    here = Path(__file__).parent
    parser.add_argument("--model", type=Path, default=here, help="folder of the classifier")
    given = parser.parse_args()
    hush_pillow()
    try:
        import flatbuffers  # noqa: F401  (what jax.export reads an artifact by)
    except ImportError:
        print("flatbuffers is missing: pip install flatbuffers", file=sys.stderr)
        return 2
    names = json.loads((given.model / "classifier.json").read_text("utf-8"))["class_names"]
    failed: list[str] = []
    for path, chances in predict(given.model, given.pictures, failed):
        best = np.argsort(-chances, kind="stable")[: max(1, given.top)]
        row = [escaped(path)]
        for i in best:
            row += [printable(names[i]), f"{chances[i]:.4f}"]
        print("\t".join(map(inert, row) if given.safe_csv else row), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
