"""Classify pictures by the classifier in this folder: python predictor.py PICTURE.

Needs `pip install jax flatbuffers pillow` and nothing else, for HEIC pillow-heif too. Prints a line
for each picture: its path, the most probable class and its probability, with tabs between; --top K
lists the K best. With --unknown the class of a picture of none of the classes is empty, and the
last column is the largest cosine to a labelled picture.
"""

import argparse
import datetime
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
    import jaxlib
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
    ways = jax.tree.leaves(classify.out_info)[0].shape
    if ways != (BATCH, len(names)):
        raise ValueError(f"{len(names)} class names for {ways[-1]} classes")
    cut(to_rgb(Image.new("L", (9, 7))), *(about[key] for key in CUT))  # raises for odd settings
    if about.get("familiar") is not None:
        is_known(np.ones(1), np.ones(3), "auto", about)  # raises too
    return about, classify


def predict(
    about: dict[str, Any],
    classify: Callable[[np.ndarray], Any],
    paths: list[str],
    failed: list[str],
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield path, probabilities and evidence of every picture that can be read.

    Others are told, and put in `failed`. Programs of old have no evidence; it is nan.
    """
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
        shares, *more = jax.tree.leaves(classify(batch))
        evidence = np.asarray(more[0]) if more else np.full((BATCH, 3), np.nan)
        yield from zip(read, np.asarray(shares), evidence, strict=False)


def is_known(
    chances: np.ndarray, evidence: np.ndarray, unknown: str, about: dict[str, Any]
) -> bool:
    """Say whether a picture may be of one of the classes, as `fsclip predict --unknown` does."""
    if unknown != "auto":
        return bool(chances.max() >= float(unknown))
    familiar = about["familiar"]
    parts = [familiar["energy"], familiar["cosine"], familiar["softmax"] or (0.0, np.inf)]
    score = sum(
        (float(x) - mean) / spread for x, (mean, spread) in zip(evidence, parts, strict=True)
    )
    return bool(score >= familiar["threshold"])


def refusal(unknown: str | None, about: dict[str, Any]) -> str:
    """Say in a line what is wrong with --unknown; empty if nothing is."""
    if unknown is None:
        return ""
    if unknown == "auto":
        if about.get("familiar") is not None:
            return ""
        why = "too few labelled pictures could be held out, or its export is of old"
        return f"--unknown auto has no threshold here: {why}; give a probability"
    try:
        fits = 0 <= float(unknown) <= 1
    except ValueError:
        fits = False
    return "" if fits else f"--unknown is {unknown}; give auto, or a probability from 0 to 1"


def promise(folder: Path) -> tuple[str, bool]:
    """Say which other JAX wrote the program, until when this one may read it, and if that is past.

    Empty if this JAX wrote it, or if it does not say.
    """
    try:
        about = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
        wrote, until = about["jaxlib_version"], datetime.date.fromisoformat(about["promised_until"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "", False
    if not isinstance(wrote, str) or wrote == jaxlib.__version__:
        return "", False
    line = (
        f"jaxlib {wrote[:40]} wrote it, this is {jaxlib.__version__}, and JAX promises to read it "
        f"in none released after {until}: export it again, or pip install jax=={wrote[:40]}"
    )
    return printable(line), datetime.datetime.now(datetime.UTC).date() > until


def main() -> int:
    """Read the command line, print the lines, return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--top", type=int, default=1, help="classes to list, 1 unless given")
    parser.add_argument("--safe-csv", action="store_true", help="put ' before formulas in names")
    parser.add_argument("--unknown", help="auto, or the least probability of a class that is told")
    here = Path(__file__).parent
    parser.add_argument("--model", type=Path, default=here, help="folder of the classifier")
    given = parser.parse_args()
    hush_pillow()
    try:
        about, classify = load(given.model)
    except Exception as error:  # whatever JAX, JSON and the system raise for such files
        line = printable(" ".join(str(error).split())[:200])
        cure, _ = promise(given.model)
        print(
            f"{given.model} holds no classifier that runs here ({type(error).__name__}: {line}): "
            f"{cure or 'export it again, or take the jax of its README'}",
            file=sys.stderr,
        )
        return 2
    told, late = promise(given.model)
    if late:
        print(f"{given.model} is read, but too late to be sure of: {told}", file=sys.stderr)
    if wrong := refusal(given.unknown, about):
        print(printable(wrong), file=sys.stderr)
        return 2
    failed: list[str] = []
    for path, chances, evidence in predict(about, classify, given.pictures, failed):
        best = np.argsort(-chances, kind="stable")[: max(1, given.top)]
        row = [escaped(path)]
        for i in best:
            row += [printable(about["class_names"][i]), f"{chances[i]:.4f}"]
        if given.unknown is not None:
            if not is_known(chances, evidence, given.unknown, about):
                row[1] = ""
            row.append("" if np.isnan(evidence[1]) else f"{evidence[1]:.4f}")
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
