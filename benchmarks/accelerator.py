"""One table of what this device does: its ceilings, and how near to them every part comes.

    python benchmarks/accelerator.py                     # one GPU, at most 8 minutes
    python benchmarks/accelerator.py --before FILE.json  # beside an earlier table
    python benchmarks/accelerator.py --small --out DIR   # small sizes, to see that it works

Rows: the rates of a large product and of a large copy; image towers in bfloat16; the Meta-Adapter's
step; the sampler; fit and predict of every method; Tip-Adapter's search; JPEG files with a tower
behind them; the quickstart's accuracies here and on the CPU. A ratio is PyTorch's time over ours,
in turn on the same device (``torch.compile`` where the row says so; eager elsewhere), and is left
out where PyTorch is not installed. The share is of the ceiling that binds: the least time that
arithmetic allows at the two rates, over ours. What the minutes do not suffice for is left out and
said. JSON and Markdown go to benchmarks/results; the last line is ``ratio X``, the smallest.
"""

import argparse
import json
import os
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch wants memory as well
os.environ.setdefault("JAX_PLATFORMS", "")  # the other programs take the CPU unless told

import jax
from accelerator_rows import GROUPS, Ceilings, Row, Sizes, has_torch
from encode import processor

RESULTS = Path(__file__).parent / "results"
WHOLE = Sizes()
SMALL = Sizes(
    product=256,
    copy=2**20,
    towers=("mini",),
    batch=2,
    ways=(8,),
    dim=64,
    shot=2,
    queries=20,
    methods=("prototype", "gda", "taskres"),
    settings=2,
    pictures=300,
    train=("--steps", "2", "--val-episodes", "2"),
    evaluate=("--seeds", "2", "--shots", "1", "--methods", "zero_shot", "meta_adapter"),
    pairs=2,
    seconds=0.1,
)


@dataclass
class Budget:
    """The minutes that are left."""

    until: float

    def left(self) -> float:
        """Return seconds."""
        return self.until - time.perf_counter()


def measure(sizes: Sizes, names: list[str], minutes: float) -> tuple[Ceilings, list[Row]]:
    """Measure group after group and print every row as it is known."""
    budget = Budget(time.perf_counter() + 60 * minutes)
    ceilings, rows = Ceilings(sizes), []
    print(f"{'':<34}{'ours':>20}{'ratio':>8}{'spread':>8}{'share':>7}  {'bound by':<8} against")
    for row in ceilings.rows():
        rows.append(row)
        show(row)
    for name in names:
        if budget.left() <= 0:
            rows.append(Row(name, note="left out: no time was left"))
            show(rows[-1])
            continue
        try:
            for row in GROUPS[name](sizes, ceilings, budget.left):
                rows.append(row)
                show(row)
        except Exception as error:  # what one part lacks must not cost the others
            line = " ".join(f"{type(error).__name__}: {error}".split())
            rows.append(Row(name, note=f"left out: {line[:200]}"))
            show(rows[-1])
    return ceilings, rows


def show(row: Row) -> None:
    ratio, spread = number(row.ratio, ".2f"), number(row.spread, ".1%")
    print(
        f"{row.name:<34}{row.shown():>20}{ratio:>8}{spread:>8}"
        f"{number(row.share, '.0%'):>7}  {row.bound:<8} {row.against or row.note}",
        flush=True,
    )


def number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def markdown(about: dict, rows: list[Row], before: dict[str, float]) -> str:
    """Lay the table out; with an earlier one, how much longer that took."""
    head = ["row", "ours", "ratio", "spread", "share", "bound by", "against"]
    head += ["earlier over now"] if before else []
    lines = [f"# {about['device']}", "", about["said"], ""]
    lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [
            row.name,
            row.shown(),
            number(row.ratio, ".2f"),
            number(row.spread, ".1%"),
            number(row.share, ".0%"),
            row.bound,
            row.against or row.note,
        ]
        if before:
            cells.append(number(compared(row, before), ".2f"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def compared(row: Row, before: dict[str, float]) -> float | None:
    """Return the time of an earlier table over this one's, above 1 where it was slower."""
    if row.seconds is None or row.name not in before:
        return None
    return before[row.name] / row.seconds


def versions() -> dict[str, str]:
    found = {}
    for name in ("jax", "jaxlib", "flax", "numpy", "torch", "transformers", "open_clip_torch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def main() -> None:
    """Measure, print, store, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--small", action="store_true", help="small sizes: no figures worth keeping"
    )
    parser.add_argument("--rows", nargs="+", default=list(GROUPS), choices=GROUPS)
    parser.add_argument("--minutes", type=float, default=8, help="after which nothing is begun")
    parser.add_argument("--before", type=Path, help="an earlier JSON, to compare with")
    parser.add_argument("--note", default="", help="kept with the table: was the machine quiet?")
    parser.add_argument(
        "--out", type=Path, help="folder to write to; benchmarks/results by default"
    )
    given = parser.parse_args()
    before = {}
    if given.before is not None:
        earlier = json.loads(given.before.read_text())["rows"]
        before = {row["name"]: row["seconds"] for row in earlier if row["seconds"]}
    if has_torch() and jax.default_backend() == "gpu":
        import torch

        if torch.cuda.is_available():
            torch.set_default_device("cuda")
        else:
            print("PyTorch sees no GPU and runs on the CPU: the ratios say nothing")
    sizes = SMALL if given.small else WHOLE
    started = time.perf_counter()
    _, rows = measure(sizes, given.rows, given.minutes)
    about = {
        "device": processor(),
        "versions": versions(),
        "small": given.small,
        "minutes": (time.perf_counter() - started) / 60,
        "note": given.note,
    }
    packages = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    about["said"] = (
        f"{packages}; {about['minutes']:.1f} minutes. {given.note or 'Ratio: PyTorch over ours.'}"
    )
    out = given.out or RESULTS
    out.mkdir(parents=True, exist_ok=True)
    kind = "".join(c if c.isalnum() else " " for c in about["device"].lower())
    stem = out / f"accelerator-{'-'.join(kind.split())}"
    text = markdown(about, rows, before)
    stored = {**about, "rows": [asdict(row) for row in rows]}
    stem.with_suffix(".json").write_text(json.dumps(stored, indent=1) + "\n")
    stem.with_suffix(".md").write_text(text)
    if before:
        print(text)
    print(f"wrote {stem}.json and .md, {about['minutes']:.1f} minutes")
    ratios = [row.ratio for row in rows if row.ratio is not None]
    print(f"ratio {min(ratios):.2f}" if ratios else "ratio -")


if __name__ == "__main__":
    main()
