"""Let a command work for long, and watch its memory: python scripts/soak.py pictures|classes|names.

``pictures``: 50,000 generated pictures of many sizes and formats, some of them broken, through
``fsclip predict`` with the bundled CLIP; the resident memory of the command and its workers is
sampled each second and has to be flat within 5 % after the first thousand. ``classes``: 10,000
classes of one picture. ``names``: a million names through the readers of folders. Pictures are
links to some hundred files.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SUPPORT = str(Path(__file__).parents[1] / "tests" / "support")
DISTINCT, FIRST, FLAT = 400, 1000, 0.05
FORMATS = ("png", "jpg", "webp", "bmp", "gif", "tif", "avif")
COUNTS = {"pictures": 50_000, "classes": 10_000, "names": 1_000_000}


class Sample(NamedTuple):
    """What a command had written and held after some seconds."""

    seconds: float
    lines: int
    megabytes: float


def generate(folder: Path, count: int) -> list[Path]:
    """Write different pictures; one of twelve is cut, empty or none at all."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        path = folder / f"{number}.{FORMATS[number % len(FORMATS)]}"
        width, height = (int(side) for side in 2 ** rng.uniform(4, 10, 2))
        small = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(small).resize((width, height)).save(path)
        if number % 12 == 5:
            content = path.read_bytes()
            path.write_bytes((content[: len(content) // 2], b"", b"no picture")[number % 3])
        made.append(path)
    return made


def support(folder: Path, classes: int, each: int) -> Path:
    """Write a folder of labelled pictures, links to sixty."""
    rng, kept = np.random.default_rng(1), []
    (folder / "kept").mkdir(parents=True)
    for number in range(60):
        kept.append(folder / "kept" / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(kept[-1])
    for label in range(classes):
        place = folder / "support" / f"thing {label}"
        place.mkdir(parents=True)
        for number in range(each):
            os.link(kept[(label + number) % len(kept)], place / f"{number}.png")
    return folder / "support"


def links(folder: Path, targets: list[Path], count: int, in_each: int = 1000) -> Path:
    """Give so many names to the targets, some in every sub-folder."""
    for number in range(count):
        target = targets[number % len(targets)]
        place = folder / f"{number // in_each:05d}"
        if number % in_each == 0:
            place.mkdir(parents=True)
        os.link(target, place / f"{number:07d}{target.suffix}")
    return folder


def resident(pid: int) -> float:
    """Megabytes that a process and its children hold, each page that they share counted once."""
    total, waiting = 0, [pid]
    while waiting:
        each = waiting.pop()
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            tasks = list(Path(f"/proc/{each}/task").iterdir())
            children = [(task / "children").read_text().split() for task in tasks]
        except OSError:  # it has just ended
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        waiting += [int(child) for some in children for child in some]
    return total / 1024


def watch(words: list[str], out: Path) -> Iterator[Sample]:
    """Run the command and sample it each second, with the lines of its table."""
    with open(out.with_suffix(".told"), "wb") as told:
        child = subprocess.Popen(
            [sys.executable, "-m", "fsclip_jax.cli.main", *words], stdout=told, stderr=told
        )
        began, lines, read = time.monotonic(), 0, 0
        while child.poll() is None:
            time.sleep(1)
            if out.exists():
                with out.open("rb") as table:
                    table.seek(read)
                    new = table.read()
                lines, read = lines + new.count(b"\n"), read + len(new)
            yield Sample(time.monotonic() - began, lines, resident(child.pid))
    said = out.with_suffix(".told").read_text(errors="replace")
    if child.returncode not in (0, 1) or "Traceback" in said:  # 1: some pictures are unreadable
        raise SystemExit(f"the command left with {child.returncode}: {said.splitlines()[-1:]}")


def soak_pictures(folder: Path, count: int) -> int:
    """Predict and tell the memory in tenths; 1 if it is not flat."""
    (folder / "distinct").mkdir()
    pictures = links(folder / "in", generate(folder / "distinct", DISTINCT), count)
    words = ["predict", "--support", str(support(folder, 5, 4)), "--images", str(pictures)]
    out = folder / "out.csv"
    samples = list(watch([*words, "--backbone", "mini", "--out", str(out)], out))
    steady = [sample for sample in samples if sample.lines > FIRST and sample.megabytes]
    print("| lines | seconds | MB, median | least | most |\n|---|---|---|---|---|")
    if len(steady) < 10:
        raise SystemExit(
            f"{len(steady)} samples after {FIRST} lines are too few: give more --count"
        )
    medians = []
    for part in np.array_split(np.arange(len(steady)), 10):
        chosen = [steady[i] for i in part.tolist()]
        held = [sample.megabytes for sample in chosen]
        medians.append(statistics.median(held))
        row = (chosen[-1].lines, chosen[-1].seconds, medians[-1], min(held), max(held))
        print("| " + " | ".join(f"{value:,.0f}" for value in row) + " |")
    rise = max(medians) / medians[0] - 1
    print(f"{len(steady)} samples; the median of a tenth is at most {rise:+.1%} over the first")
    return int(rise > FLAT)


def soak_classes(folder: Path, count: int) -> int:
    """Predict ten pictures by classes of one picture each."""
    (folder / "distinct").mkdir()
    pictures = links(folder / "in", generate(folder / "distinct", 10), 10)
    words = ["predict", "--support", str(support(folder, count, 1)), "--images", str(pictures)]
    out = folder / "out.csv"
    samples = list(watch([*words, "--backbone", "mini", "--out", str(out)], out))
    most = max(sample.megabytes for sample in samples)
    print(f"{count:,} classes: {samples[-1].seconds:.0f} s, at most {most:,.0f} MB")
    return 0


NAMES = """
import sys, time
from pathlib import Path
sys.path.append(sys.argv[3])
from memory import peak_kib
from fsclip_jax.data.folder import list_pictures, open_folder
from fsclip_jax.data.left_out import passed_over
def used(): return peak_kib() / 1024
before, began, passed = used(), time.monotonic(), {}
if sys.argv[1] == "list":
    found = list_pictures([Path(sys.argv[2])], passed)
    notes = list(passed_over(passed))
else:
    source = open_folder(sys.argv[2])
    found, notes = source.keys, source.notes
print(f"{len(found):,} pictures in {time.monotonic() - began:.1f} s, {used() - before:,.0f} MB; "
      f"{sum(map(len, notes))} letters of notes", flush=True)
"""


def soak_names(folder: Path, count: int) -> int:
    """List a million names: of pictures, of other files, of labelled pictures; all are empty."""
    for kind, suffix in (("pictures", ".jpg"), ("other files", ".txt")):
        target = folder / f"empty{suffix}"
        target.touch()
        place = links(folder / kind, [target], count)
        (place / "one.jpg").touch()
        for how in ("list", "open") if suffix == ".jpg" else ("list",):
            print(f"{kind}, {how}: ", end="", flush=True)
            subprocess.run([sys.executable, "-c", NAMES, how, str(place), SUPPORT], check=True)
    return 0


def main() -> int:
    """Read the command line and soak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=COUNTS)
    parser.add_argument("--count", type=int)
    parser.add_argument("--folder", type=Path, help="where to put the pictures; removed after it")
    given = parser.parse_args()
    soak = {"pictures": soak_pictures, "classes": soak_classes, "names": soak_names}[given.what]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        return soak(Path(folder), given.count or COUNTS[given.what])


if __name__ == "__main__":
    sys.exit(main())
