"""The site is built without a warning, needs no network, and shows what pages and code say."""

import html
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fsclip_jax

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), "")
FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\ssrc="?(?:https?:)?//|<link[^>]*href="?(?:https?:)?//"""
    r"""|@import|url\(["']?(?:https?:)?//""",
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not importlib.util.find_spec("mkdocs") or not importlib.util.find_spec("mkdocstrings"),
        reason="the extra `docs` is not installed",
    ),
]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", out]
    done = subprocess.run(
        words,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    return out


@pytest.fixture(scope="module")
def texts(site):
    return {p.relative_to(site).as_posix(): p.read_text("utf-8") for p in site.rglob("*.html")}


def words_of(text):
    return html.unescape(re.sub(r"<[^>]+>", "", text))


def test_nothing_is_fetched_from_elsewhere(site, texts):
    styles = {p.name: p.read_text("utf-8") for p in site.rglob("*.css")}
    assert len(styles) >= 2
    for name, text in {**texts, **styles}.items():
        assert not FETCHED.search(text), name


def test_what_fetches_is_found():
    for text in ('<script src="https://a.b/c.js">', '<link href=//a.b rel="stylesheet">'):
        assert FETCHED.search(text)
    assert not FETCHED.search('<a href="https://a.b">, <script src="assets/worker.js">')


def test_every_page_and_module_is_there(texts):
    for page in (ROOT / "docs").rglob("*.md"):
        assert page.relative_to(ROOT / "docs").with_suffix(".html").as_posix() in texts
    for file in (ROOT / "fsclip_jax").rglob("[!_]*.py"):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if not module.startswith("fsclip_jax.cli."):
            assert f"api/{module}.html" in texts
    assert {"index.html", "repository/CONTRIBUTING.html", "repository/NOTICE.html"} <= texts.keys()


def test_the_reference_begins_with_what_the_package_offers(texts):
    for name in set(fsclip_jax.__all__) - {"__version__"}:
        assert re.search(rf'<li><a href="[^"]+">{name}</a></li>', texts["api/index.html"]), name


def test_shapes_and_examples_are_legible(texts):
    said = words_of(texts["api/fsclip_jax.adapters.meta_adapter.html"])
    assert 'support: Float[Array, "way shot dim"],' in said
    assert ') -> Float[Array, "way dim"]' in said
    assert "init_params(jax.random.key(0), 8)" in said
    assert "dim      width of the joint embedding" in words_of(texts["api/fsclip_jax.typing.html"])


@pytest.mark.parametrize(
    "slip",
    [
        pytest.param(r":(?:func|class|data|mod|math|meth):", id="a role of reStructuredText"),
        pytest.param(
            r"(?m)<p>[^<]*(?:<(?!/p>)[^<]*)*^(?:[-*] |\d+\. |\|)", id="a list in a paragraph"
        ),
        pytest.param(r"<!-- (?:generated|end)", id="a mark of what is generated"),
        pytest.param(r"<td>[^<]*<code>[^<]*\\\|", id="a stroke before a bar"),
    ],
)
def test_markdown_is_as_a_code_host_shows_it(texts, slip):
    for name, text in texts.items():
        shown = re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)  # the source code
        assert not re.search(slip, shown), name


@pytest.mark.skipif(not CHROMIUM, reason="there is no chromium to search with")
def test_the_search_works_in_a_folder_without_a_server(site, tmp_path):
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-dev-shm-usage", "--enable-logging=stderr", "--virtual-time-budget=20000",
        f"--user-data-dir={tmp_path}", "--dump-dom", f"{(site / 'data.html').as_uri()}?q=refine",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert re.search(r"\d+ matching documents", done.stdout), done.stderr[-2000:]
    assert "fsclip_jax.adapters.meta_adapter.html" in done.stdout
    assert "CONSOLE" not in done.stderr
