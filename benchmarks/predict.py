"""What a user waits for: `fsclip predict` to its first line, its rate and memory, and fits again.

    python benchmarks/predict.py                 # 144 labelled pictures, 5,000 to classify
    python benchmarks/predict.py --pictures 500 --runs 2

Emoji as PNG files on the bundled CLIP: 36 classes of 4. *First line*: from the start of the
process until the first prediction is in the table, cold (no cache of features or programs) and
warm. *Rate*: pictures a second of predicting, beside those of nothing but decoding and encoding
the same files, in one process, in turn. *Memory*: the most that the command and its workers
held, from the first line on, sampled. *Fits*: ``FewShotClassifier`` again, and its 3-fold
cross-validation. Seconds of the processor are told beside those of the clock: others may use the
machine. The last lines compare with what is promised.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "scripts"))

from soak import resident  # noqa: E402 (it lies there)

CLASSES, SHOTS = 36, 4
PROMISED = {  # what, at most or at least
    "cold, s": (6.0, "<"), "warm, s": (2.0, "<"), "memory, MB": (1000.0, "<"),
    "rate over encoding": (0.9, ">"), "fit again, s": (0.5, "<"), "cross-validation, s": (3.0, "<"),
}  # fmt: skip


def write_pictures(folder, count):
    """Write labelled pictures and others; the latter are links to 500 files."""
    import numpy as np

    from fsclip_jax.data.emoji import open_emoji

    source = open_emoji()
    labels = np.asarray(source.labels)
    for label in range(CLASSES):
        place = folder / "labelled" / source.class_names[label]
        place.mkdir(parents=True)
        for row in np.flatnonzero(labels == label)[:SHOTS].tolist():
            source.load(row).save(place / f"{row}.png")
    (folder / "files").mkdir()
    (folder / "asked").mkdir()
    others = np.flatnonzero(labels >= CLASSES)[:500].tolist()
    for row in others:
        source.load(row).save(folder / "files" / f"{row}.png")
    for number in range(count):
        file = folder / "files" / f"{others[number % len(others)]}.png"
        os.link(file, folder / "asked" / f"{number:06d}.png")


def used(pid):
    """Seconds of the processor that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def command(folder, images, caches):
    """Run the command; return seconds to its first line (clock, processor), and its most MB."""
    out = folder / "out.csv"
    out.unlink(missing_ok=True)
    kept = {"FSCLIP_CACHE": caches / "banks", "FSCLIP_COMPILE_CACHE": caches / "compiled"}
    words = ["--support", folder / "labelled", "--images", *images, "--out", out]
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "fsclip_jax.cli.main", "predict", "--backbone", "mini",
         *words, "--overwrite"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT,
        env={**os.environ, **{name: str(place) for name, place in kept.items()}},
    )  # fmt: skip
    first, most = None, 0.0
    while child.poll() is None:
        try:
            if first is None and out.read_bytes().count(b"\n") > 1:
                first = time.perf_counter() - began, used(child.pid)
            most = max(most, 0 if first is None else resident(child.pid))
        except (OSError, IndexError, ValueError):  # not begun, or over
            pass
        time.sleep(0.005 if first is None else 0.2)
    if child.returncode:
        raise SystemExit(f"the command left with {child.returncode}")
    return *first, most


def rates(folder, asked, runs):
    """Return pictures a second of encoding and of predicting, each with its processor's seconds."""
    from fsclip_jax.clip.load import load_clip
    from fsclip_jax.prediction.config import FolderFit, TableConfig
    from fsclip_jax.prediction.images import encode_pictures, picture_source
    from fsclip_jax.prediction.run import fit_folder, open_table, write_predictions

    backbone = load_clip("mini")
    ready = fit_folder(folder / "labelled", FolderFit(backbone="mini"))

    def encode():
        for _ in encode_pictures(picture_source(asked), backbone):
            pass

    def predict():
        config = TableConfig(out=folder / "rate.csv", overwrite=True)
        with open_table(ready, config, print) as table:
            write_predictions(ready, asked, table, config, {})

    for run in (encode, predict):  # compile
        run()
    found = []
    for _ in range(runs):
        for run in (encode, predict):
            began, busy = time.perf_counter(), time.process_time()
            run()
            found.append((time.perf_counter() - began, time.process_time() - busy))
    return found[::2], found[1::2]


def fits(folder, runs):
    """Return seconds of the first fit, of the others and of cross-validations."""
    import numpy as np
    from sklearn.model_selection import cross_val_score

    from fsclip_jax import FewShotClassifier

    files = sorted((folder / "labelled").rglob("*.png"))
    names, labels = [str(file) for file in files], [file.parent.name for file in files]

    def clock(work):
        began, busy = time.perf_counter(), time.process_time()
        work()
        return time.perf_counter() - began, time.process_time() - busy

    fitted = [
        clock(lambda: FewShotClassifier(backbone="mini").fit(names, labels))
        for _ in range(runs + 1)
    ]
    crossed = [
        clock(lambda: cross_val_score(
            FewShotClassifier(backbone="mini"), np.array(names), labels, cv=3
        ))
        for _ in range(runs)
    ]  # fmt: skip
    return fitted[0], fitted[1:], crossed


def part(name, folder, runs):
    """Run a part in a process of its own, with caches of its own; return what it found."""
    words = [sys.executable, __file__, "--part", name, "--folder", folder, "--runs", str(runs)]
    kept = {name: str(folder / f"{name}-{runs}") for name in
            ("FSCLIP_CACHE", "FSCLIP_COMPILE_CACHE")}  # fmt: skip
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **kept},
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--part", choices=["rates", "fits"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part == "fits":
        print(json.dumps(fits(args.folder, args.runs)))
        return
    if args.part == "rates":
        asked = sorted(map(str, (args.folder / "asked").iterdir()))
        print(json.dumps(rates(args.folder, asked, args.runs)))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_pictures(folder, args.pictures)
        measure(folder, args.runs)


def measure(folder, runs):
    """Measure all parts and print them."""
    few = [folder / "asked" / f"{number:06d}.png" for number in range(20)]
    cold = [command(folder, few, folder / f"cold-{run}") for run in range(runs)]
    warm = [command(folder, few, folder / "cold-0") for _ in range(runs)]
    _, _, most = command(folder, [folder / "asked"], folder / "cold-0")
    encoded, predicted = part("rates", folder, runs)
    first, again, crossed = part("fits", folder, runs)
    count = len(list((folder / "asked").iterdir()))
    print("| what | clock: least | median | most | processor: least | median |")
    print("|---|---|---|---|---|---|")
    rows = {
        "first line, cold, s": cold, "first line, warm, s": warm,
        f"encode {count:,} pictures, s": encoded, f"predict {count:,} pictures, s": predicted,
        "first fit, s": [first], "fit again, s": again, "3-fold cross-validation, s": crossed,
    }  # fmt: skip
    for what, runs_of in rows.items():
        clock, busy = [run[0] for run in runs_of], [run[1] for run in runs_of]
        cells = min(clock), statistics.median(clock), max(clock), min(busy), statistics.median(busy)
        print(f"| {what} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |")
    print(f"\n{count / min(run[0] for run in predicted):.0f} pictures a second at best, "
          f"at most {most:,.0f} MB\n")  # fmt: skip
    by_clock, by_processor = (
        statistics.median(e[i] / p[i] for e, p in zip(encoded, predicted, strict=True))
        for i in (0, 1)
    )
    print(f"rate over encoding, median of the pairs: {by_clock:.3f} by the clock, "
          f"{by_processor:.3f} by the processor")  # fmt: skip
    found = (
        min(run[0] for run in cold), min(run[0] for run in warm), most, by_clock,
        min(run[0] for run in again), min(run[0] for run in crossed),
    )  # fmt: skip
    for (what, (bound, sign)), value in zip(PROMISED.items(), found, strict=True):
        held = value < bound if sign == "<" else value > bound
        print(f"{what}: {value:.2f}, promised {sign} {bound:g}: {'held' if held else 'MISSED'}")


if __name__ == "__main__":
    main()
