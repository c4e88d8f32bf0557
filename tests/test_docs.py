"""What the pages say is there, is there: links, files, flags, the words between the marks."""

import importlib.util
import re
from pathlib import Path

import pytest

from fsclip_jax.adapters.catalog import ADAPTERS
from fsclip_jax.cli.main import COMMANDS
from fsclip_jax.data.catalog import KNOWN_SETS
from fsclip_jax.transductive.catalog import REFINEMENTS

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
make_docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_docs)

PAGES = make_docs.pages()
IDS = [page.name for page in PAGES]
FILE = re.compile(
    r"(?<![\w/.-])(?:fsclip_jax|tests|benchmarks|scripts|configs|docs)/[\w./{},-]*[\w}/]"
)


def prose(page):
    """The text of a page without what the program wrote, and what a command would write."""
    return make_docs.BLOCK.sub("", page.read_text("utf-8"))


def anchors(page):
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_page_is_as_the_program_would_write_it(capsys):
    assert make_docs.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_page_is_told(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("# A\n<!-- generated: data sets -->\nold\n<!-- end -->\nby hand\n")
    monkeypatch.setattr(make_docs, "ROOT", tmp_path)
    monkeypatch.setattr(make_docs, "pages", lambda: [page])
    assert make_docs.main(["--check"]) == 1
    assert "stale: page.md; `make docs`" in capsys.readouterr().err
    assert make_docs.main([]) == 0
    assert make_docs.main(["--check"]) == 0
    text = page.read_text()
    assert text.endswith("<!-- end -->\nby hand\n")
    assert all(f"|`{known.name}`|{known.title}|" in text for known in KNOWN_SETS)


def test_every_flag_and_method_has_its_words():
    commands = (ROOT / "docs" / "commands.md").read_text("utf-8")
    for config in make_docs.COMMANDS.values():
        for flag, _, meaning in make_docs.flags_of(config):
            assert meaning, f"{config.__name__} says nothing of {flag}"
            assert flag in commands
    assert {command.split()[0] for command in make_docs.COMMANDS} == set(COMMANDS)
    methods = (ROOT / "docs" / "methods.md").read_text("utf-8")
    assert re.findall(r"^### `(\w+)`$", methods, re.MULTILINE) == [*ADAPTERS, *REFINEMENTS]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        to = page.parent / name if name else page
        assert to.exists(), f"links to {target}"
        assert not anchor or anchor in anchors(to), f"links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_file_is_there(page):
    for name in FILE.findall(prose(page)):
        if not re.search("[A-Z]{4}|[{}]", name):  # NAME stands for the reader's own
            assert (ROOT / name).exists(), name


def code(text):
    """The lines that a page shows as code, continued ones joined."""
    shown = re.findall(r"```\w*\n(.*?)```|`([^`\n]+)`", text, re.DOTALL)
    return "\n".join(block or inline for block, inline in shown).replace("\\\n", " ").splitlines()


def flags(config):
    said = (flag.strip("`").split()[0] for flag, _, _ in make_docs.flags_of(config))
    always = {"--compile-cache", "--help", "--field", "--no-FLAG"}
    return {flag for name in said for flag in (name, f"--no-{name[2:]}")} | always


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_command_takes_what_it_is_given(page):
    configs = {f"fsclip {name}": config for name, config in make_docs.COMMANDS.items()}
    configs |= {f"python {name}.py": make_docs.COMMANDS[name] for name in ("train", "eval")}
    known = set().union(*map(flags, configs.values()))
    for line in code(prose(page)):
        command = re.search(r"(?<![\w-])(fsclip (?:bank )?[a-z]+|python (?:train|eval)\.py)", line)
        if command and command[1].split()[-1] != "bank":
            assert command[1] in configs, line
        accepted = flags(configs[command[1]]) if command and command[1] in configs else known
        if command or line.startswith("--"):
            assert set(re.findall(r"(?<![\w-])--[a-z][\w-]+", line)) <= accepted, line


def test_every_picture_is_shown():
    shown = {Path(name).name for page in PAGES for name in re.findall(r"\((\S+g)\)", prose(page))}
    pictures = [file for file in (ROOT / "docs").iterdir() if file.suffix in (".png", ".svg")]
    assert {file.name for file in pictures} <= shown


def test_the_pages_are_short():
    """Of what is written by hand: what the program writes grows with what there is to describe."""
    words = {page.name: len(prose(page).split()) for page in PAGES}
    assert words.pop("README.md") <= 1200
    words.pop("CONTRIBUTING.md")
    # 200 of them are the tables of what people bring, which name the test of every case; 450 say
    # how far the predictions for one's own pictures can be trusted, and 50 what Python can ask;
    # 350 are the table of promises, 140 how a table of predictions goes on and is read.
    # 420 are on scaling, clusters and failures, 130 on recipes and the order of the literature.
    # 240 say how predictions are looked at, sorted, taken back and added to.
    assert sum(words.values()) <= 13983


def python_blocks(page):
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", python_blocks(ROOT / "docs" / "methods.md"))
def test_the_python_of_the_methods_runs(block):
    exec(block, {"__name__": "example"})


def test_the_line_of_a_new_method_is_in_the_catalog():
    line = '"ridge": Ridge,'
    assert line in (ROOT / "docs" / "adding_a_method.md").read_text("utf-8")
    assert line in (ROOT / "fsclip_jax" / "adapters" / "catalog.py").read_text("utf-8")
