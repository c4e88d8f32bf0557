"""Pages in a real browser: what it measures of them, and what its console says."""

import html
import json
import re
import shutil
import subprocess

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)

# Measures the page it is put into and tells the page around it.
PROBE = """<script>
// Bands of 500 px of the page that have nothing in their left or their right half.
function halfEmptyBands(main) {
  const drawn = [...main.querySelectorAll('img, svg, i, b')];
  const boxes = drawn.map(each => each.getBoundingClientRect());
  const words = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (words.nextNode())
    if (words.currentNode.data.trim()) {
      range.selectNodeContents(words.currentNode);
      boxes.push(...range.getClientRects());
    }
  const middle = innerWidth / 2, bands = [];
  for (let from = 0; from + 500 < main.scrollHeight; from += 500) {
    const there = boxes.filter(box => box.width && box.bottom > from && box.top < from + 500);
    if (!there.some(box => box.right > middle + 40) || !there.some(box => box.left < middle - 40))
      bands.push(from);
  }
  return bands;
}
// Tables by shots whose last column is not in sight as the page opens.
const cutTables = () => [...document.querySelectorAll('table.shots')].filter(table => {
  const head = table.querySelector('thead th:last-child').getBoundingClientRect();
  const around = table.parentElement.getBoundingClientRect();
  const names = table.querySelector('tbody th').getBoundingClientRect();
  return head.right > Math.min(around.right, innerWidth) + 1 || head.left < names.right - 1;
});
// Rows of panels whose last one does not reach the end of the row, or that are not filled.
const openRows = () => [...document.querySelectorAll('.row')].filter(row => {
  const end = row.lastElementChild.getBoundingClientRect().right;
  const top = row.firstElementChild.getBoundingClientRect().top;
  return end < row.getBoundingClientRect().right - 2
    || [...row.children].some(each => Math.abs(each.getBoundingClientRect().top - top) > 2);
});
addEventListener('load', () => {
  const pictures = [...document.images], canvas = document.createElement('canvas').getContext('2d');
  const drawn = each => {  // decodes it at once, where decode() would be behind the dump
    try { canvas.drawImage(each, 0, 0); return each.naturalWidth > 0; } catch { return false; }
  };
  const style = getComputedStyle(document.body), root = document.documentElement;
  parent.postMessage(JSON.stringify({
    page: PAGE, width: innerWidth, wide: root.scrollWidth, pictures: pictures.length,
    broken: pictures.filter(each => !drawn(each)).length,
    plots: document.querySelectorAll('svg').length,
    flat: [...document.querySelectorAll('svg')].filter(each => {
      const box = each.getBoundingClientRect(), drawn = each.getBBox();
      return each.checkVisibility() && !(box.width > 30 && box.height > 15 && drawn.width > 10);
    }).length,
    bands: document.querySelector('main') ? halfEmptyBands(document.querySelector('main')) : [],
    cut: cutTables().length, tables: document.querySelectorAll('table.shots').length,
    open: openRows().length, rows: document.querySelectorAll('.row').length,
    bars: pictures.filter(each => {
      const box = each.getBoundingClientRect(), own = getComputedStyle(each);
      return box.width !== box.height || own.backgroundColor === 'rgb(255, 255, 255)'
        || (own.objectFit !== 'cover' && each.naturalWidth !== each.naturalHeight);
    }).length,
    ink: style.color, paper: style.backgroundColor,
    text: [...document.querySelectorAll('svg text')].map(each => getComputedStyle(each).fill)[0],
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
