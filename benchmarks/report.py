"""The pages in a browser: how large they are, how long to draw, and how long to open.

    python benchmarks/report.py                     # 11 data sets x 5 shots x 12 methods
    python benchmarks/report.py runs/quickstart     # the page of a report of one's own

Opening is measured inside headless Chromium, from the start of the navigation until the page is
loaded and laid out, median of some runs, each with a fresh profile; and outside, as the time of
the whole process less that of an empty page. Screenshots are kept with ``--screenshots DIR``; those
in ``docs/`` are of ``runs/quickstart``. The last line says ``slowest X s, largest Y MB``.
"""

import argparse
import html
import itertools
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.rows import read_report
from fsclip_jax.report.suite import suite_from_json
from fsclip_jax.report.suite_html import suite_to_html

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from example_suite import example_suite

DATA = tuple(f"data set {i}" for i in range(1, 12))
METHODS = (
    "zero_shot", "prototype", "text_prototype", "tip_adapter", "tip_adapter_f", "ape", "gda",
    "proker", "linear_probe", "taskres", "meta_prior", "meta_adapter",
)  # fmt: skip
WIDTHS, TALL, COLOURS = (1280, 1920, 390), 2600, 128
"""Pixels of a screenshot, and its colours: it is small then, and its letters are sharp."""

CLOCK = """<script>addEventListener('load', () => {
  document.body.getBoundingClientRect();
  const told = [performance.now(), document.getElementsByTagName('*').length];
  document.documentElement.dataset.told = JSON.stringify(told);
})</script>"""


def chromium(page, *options):
    """Run the browser once with a fresh profile; return its output and the seconds it took."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        sys.exit("no chromium found: install it to measure how long a page takes to open")
    with tempfile.TemporaryDirectory() as profile:
        command = [
            program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--no-first-run", "--disable-dev-shm-usage", f"--user-data-dir={profile}", *options,
            page.as_uri(),
        ]  # fmt: skip
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, time.perf_counter() - start


def opening(page, runs):
    """Return the median seconds inside and outside the browser, and the number of elements."""
    inside, outside, elements = [], [], 0
    for _ in range(runs):
        text, took = chromium(page, "--dump-dom")
        told = re.search(r'data-told="([^"]*)"', text)
        milliseconds, elements = json.loads(html.unescape(told[1]))
        inside.append(milliseconds / 1e3)
        outside.append(took)
    return statistics.median(inside), statistics.median(outside), elements


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("report", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--screenshots", type=Path)
    args = parser.parse_args()
    pages, drawing = {}, {}
    for name in ["suite 11 x 5 x 12", *map(str, args.report)]:
        start = time.perf_counter()
        if name.startswith("suite"):
            tree = example_suite(DATA, METHODS, shots=(1, 2, 4, 8, 16))
            pages[name] = suite_to_html(suite_from_json(json.dumps(tree)))
        else:
            pages[name] = report_to_html(read_report(Path(name)))
        drawing[name] = time.perf_counter() - start
    slowest = largest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "empty.html"
        empty.write_text(f"<!doctype html><title>empty</title><body>{CLOCK}</body>")
        _, nothing, _ = opening(empty, args.runs)
        print(
            f"{'page':30} {'MB':>7} {'elements':>9} {'draw s':>7} {'open s':>7} {'outside s':>10}"
        )
        for name, text in pages.items():
            page = Path(folder) / "page.html"
            page.write_text(text.replace("</body>", CLOCK + "</body>"), "utf-8")
            inside, outside, elements = opening(page, args.runs)
            size = len(text.encode()) / 1e6
            print(
                f"{name:30} {size:7.3f} {elements:9,} {drawing[name]:7.2f} {inside:7.3f} "
                f"{outside - nothing:10.3f}"
            )
            slowest, largest = max(slowest, inside), max(largest, size)
            if args.screenshots:
                page.write_text(text, "utf-8")
                shoot(page, args.screenshots, re.sub(r"\W+", "-", Path(name).name))
    print(f"slowest {slowest:.3f} s, largest {largest:.3f} MB")


def shoot(page, folder, name):
    """Keep pictures of the upper part of a page: two desktops and a phone, light and dark."""
    folder.mkdir(parents=True, exist_ok=True)
    for width, (theme, number) in itertools.product(WIDTHS, (("light", 1), ("dark", 0))):
        # In a frame, as no window of the browser is as narrow as a phone.
        around = page.with_name("around.html")
        frame = f'<iframe src="{page.name}" style="width:{width}px;height:{TALL}px;border:0">'
        around.write_text(f'<body style="margin:0;overflow:hidden">{frame}</iframe>', "utf-8")
        picture = folder / f"{name}_{width}_{theme}.png"
        chromium(
            around, f"--blink-settings=preferredColorScheme={number}",
            f"--window-size={max(width, 500)},{TALL}", f"--screenshot={picture}",
        )  # fmt: skip
        with Image.open(picture) as whole:
            part = whole.convert("RGB").crop((0, 0, width, TALL))
        part.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            picture, optimize=True
        )


if __name__ == "__main__":
    main()
