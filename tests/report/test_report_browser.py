"""The pages in a real browser: nothing on the console, every picture there, nothing too wide."""

import dataclasses
import html
import json
import re
import shutil
import subprocess

import pytest
from example_details import example_details
from example_report import METHODS, example_report
from example_suite import example_suite

from fsclip_jax.report.html import report_to_html
from fsclip_jax.report.suite import suite_from_json
from fsclip_jax.report.suite_html import suite_to_html

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no chromium to open the pages with")

NASTY = "<script>alert(1)</script>"

# Measures the page it is put into and tells the page around it.
PROBE = """<script>
addEventListener('load', async () => {
  const pictures = [...document.images];
  await Promise.allSettled(pictures.map(each => each.decode()));
  const style = getComputedStyle(document.body), root = document.documentElement;
  parent.postMessage(JSON.stringify({
    page: PAGE, width: innerWidth, wide: root.scrollWidth, pictures: pictures.length,
    broken: pictures.filter(each => !each.naturalWidth).length,
    plots: document.querySelectorAll('svg').length,
    flat: [...document.querySelectorAll('svg')].filter(each => {
      const box = each.getBoundingClientRect(), drawn = each.getBBox();
      return each.checkVisibility() && !(box.width > 30 && box.height > 15 && drawn.width > 10);
    }).length,
    ink: style.color, paper: style.backgroundColor,
    text: getComputedStyle(document.querySelector('svg text')).fill,
    scripts: document.scripts.length, headings: document.querySelectorAll('h2').length,
  }), '*');
});
</script>"""

# It listens before the first frame loads.
AROUND = """<!doctype html><meta charset="utf-8"><body><pre id="told"></pre><script>
const told = [];
addEventListener('message', event => {
  told.push(JSON.parse(event.data));
  document.getElementById('told').textContent = JSON.stringify(told);
});
</script>%s</body>"""


def browse(folder, pages, widths, *options):
    """Open every page at every width; return what was measured, and the console's lines."""
    frames = ""
    for name, text in pages.items():
        probe = PROBE.replace("PAGE", json.dumps(name))
        (folder / f"{name}.html").write_text(text.replace("</body>", probe + "</body>"))
        for width in widths:
            frames += f'<iframe src="{name}.html" style="width:{width}px;height:900px"></iframe>'
    (folder / "around.html").write_text(AROUND % frames)
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-dev-shm-usage", "--enable-logging=stderr", "--virtual-time-budget=20000",
        f"--user-data-dir={folder / 'profile'}", *options, "--dump-dom",
        (folder / "around.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    told = json.loads(html.unescape(found[1]) or "[]")
    assert len(told) == len(pages) * len(widths), done.stderr[-2000:]
    return told, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def pages():
    look = example_details(METHODS, (NASTY, "dog", "owl"), key=f"pets/{NASTY}.png")
    report = dataclasses.replace(example_report(spec=NASTY), details=look)
    suite = suite_from_json(json.dumps(example_suite(data=("emoji", NASTY, "pets"))))
    plain = report_to_html(example_report(methods={"zero_shot": (0.0, 0.0)}, shots=(2,)))
    return {"report": report_to_html(report), "suite": suite_to_html(suite), "plain": plain}


def test_pages_open_whole_at_the_width_of_a_desk_and_of_a_phone(pages, tmp_path):
    told, console = browse(tmp_path, pages, (1280, 390))
    assert console == []
    for page in told:
        assert page["broken"] == page["flat"] == 0, page
        assert page["wide"] <= page["width"], page
        assert page["scripts"] == 1, page  # the probe alone
        assert page["plots"] >= 3, page
        assert page["ink"] == "rgb(28, 28, 30)"
    assert {page["width"] for page in told} == {1280, 390}
    assert [page["pictures"] for page in told if page["page"] == "report"] == [8, 8]


def test_pages_follow_a_dark_theme(pages, tmp_path):
    told, console = browse(tmp_path, pages, (1280,), "--blink-settings=preferredColorScheme=0")
    assert console == []
    for page in told:
        assert page["paper"] == "rgb(19, 19, 22)"
        assert page["ink"] == "rgb(236, 236, 240)"
        assert page["text"] in ("rgb(163, 163, 174)", "rgb(236, 236, 240)"), page


def test_the_probe_sees_what_is_broken(tmp_path):
    page = (
        "<!doctype html><body><img src='data:image/png;base64,AAAA'><svg><text>a</text></svg>"
        "<div style='width:5000px'>wide</div><script>console.error('told')</script></body>"
    )
    told, console = browse(tmp_path, {"bad": page}, (600,))
    assert told[0]["broken"] == 1
    assert told[0]["wide"] > 600
    assert told[0]["flat"] == 1
    assert len(console) == 1
