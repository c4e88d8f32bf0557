"""Classify pictures by the classifier in this folder: python predictor.py PICTURE.

Needs `pip install jax flatbuffers pillow` and nothing else, for HEIC pillow-heif too. Prints a line
for each picture: its path, the most probable class and its probability, with tabs between; --top K
lists the K best.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    import flatbuffers  # noqa: F401  (what jax.export reads an artifact by)
    import jax.export
    import numpy as np
    from PIL import Image
except ImportError as error:
    lacking = (error.name or str(error)).partition(".")[0].replace("PIL", "pillow")
    print(f"{lacking} is missing: pip install {lacking}", file=sys.stderr)
    sys.exit(2)

from fsclip_jax.pixels import cut, hush_pillow, open_image, require_regular, to_rgb, upright
from fsclip_jax.printable import escaped, inert, printable

BATCH = 16
CUT = ("image_size", "fit", "resample", "odd_margin", "edge")


def read_picture(path: str, about: dict[str, Any]) -> np.ndarray:
    """Read a picture upright and on white, cut to what the image tower takes."""
    require_regular(path)
    with open(path, "rb") as file, open_image(file) as image:
        image.load()
        picture = to_rgb(upright(image))
    return cut(picture, *(about[key] for key in CUT))


def load(folder: Path) -> tuple[dict[str, Any], Callable[[np.ndarray], Any]]:
    """Read what the classifier is, and compile it for this machine.

    Raises:
        Exception: of many kinds, where a file is missing, damaged or of another classifier.
    """
    place, program = folder / "classifier.json", folder / "classifier.stablehlo"
    require_regular(place)
    require_regular(program)
    about = json.loads(place.read_text(encoding="utf-8"))
    names, size = about["class_names"], about["image_size"]
    artifact = program.read_bytes()
    sha256 = hashlib.sha256(artifact).hexdigest()
    if about.get("sha256", sha256) != sha256:
        raise ValueError(f"{program.name} is not what {place.name} was written with")
    pixels = jax.ShapeDtypeStruct((BATCH, size, size, 3), np.uint8)
    classify = jax.jit(jax.export.deserialize(bytearray(artifact)).call).lower(pixels).compile()
    if classify.out_info.shape != (BATCH, len(names)):
        raise ValueError(f"{len(names)} class names for {classify.out_info.shape[-1]} classes")
    cut(to_rgb(Image.new("L", (9, 7))), *(about[key] for key in CUT))  # raises for odd settings
    return about, classify


def predict(
    about: dict[str, Any],
    classify: Callable[[np.ndarray], Any],
    paths: list[str],
    failed: list[str],
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield path and probabilities of every picture; unreadable ones are told, put in `failed`."""
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
        about, classify = load(given.model)
    except Exception as error:  # whatever JAX, JSON and the system raise for such files
        line = printable(" ".join(str(error).split())[:200])
        print(
            f"{given.model} holds no classifier that runs here ({type(error).__name__}: {line}): "
            "export it again, or take the jax of its README",
            file=sys.stderr,
        )
        return 2
    failed: list[str] = []
    for path, chances in predict(about, classify, given.pictures, failed):
        best = np.argsort(-chances, kind="stable")[: max(1, given.top)]
        row = [escaped(path)]
        for i in best:
            row += [printable(about["class_names"][i]), f"{chances[i]:.4f}"]
        print("\t".join(map(inert, row) if given.safe_csv else row), flush=True)
    return 1 if failed else 0


def process() -> int:
    """Run, where standard output may be closed or full, and the user may stop it."""
    try:
        return main()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except OSError as error:  # of standard output: pictures and the classifier are past
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            return 0
        print(f"standard output cannot be written: {error.strerror}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(process())
