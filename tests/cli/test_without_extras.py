"""Without an extra: one line that names it, before any work; the rest of the package is whole."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import fsclip_jax

PACKAGE = Path(fsclip_jax.__file__).parent
PROJECT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
EXTRA = {
    "pycocotools": "detection",
    "skimage": "detection",
    "datasets": "hf",
    "pillow_heif": "heic",
    "jax2onnx": "onnx",
}
"""Modules that the package imports and that an extra brings."""

PROGRAM = """
import contextlib, importlib, io, json, pkgutil, sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[2].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
import fsclip_jax
from fsclip_jax.cli.main import main
for found in pkgutil.walk_packages(fsclip_jax.__path__, "fsclip_jax."):
    if found.name != "fsclip_jax.export.predictor":
        importlib.import_module(found.name)
told = []
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stderr(io.StringIO()) as stream:
        with contextlib.redirect_stdout(io.StringIO()):
            code = main(words)
    told.append((code, stream.getvalue()))
print(json.dumps(told))
"""

CASES = [
    (["scenes"], "scenes needs the package pycocotools", "detection"),
    (["scenes", "--proposals-for", "HERE"], "needs the package skimage", "detection"),
    (["detect", "--scenes", "HERE"], "detect needs the package pycocotools", "detection"),
    (["segment", "--scenes", "HERE"], "segment needs the package skimage", "detection"),
    (["eval", "--data", "hf:some/name"], "needs the package datasets", "hf"),
]


def run_without(modules, commands):
    words = [sys.executable, "-c", PROGRAM, json.dumps(commands), " ".join(modules)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_missing_extra_is_one_line_and_nothing_is_made(tmp_path):
    out = tmp_path / "out"
    (tmp_path / "test.json").write_text("{}")  # the package is asked for before it is read
    commands = [
        [*(word.replace("HERE", str(tmp_path)) for word in words), "--out", str(out)]
        for words, _, _ in CASES
    ]
    for (words, told, extra), (code, line) in zip(CASES, run_without(EXTRA, commands), strict=True):
        assert (code, line.count("\n")) == (2, 1), (words, line)
        assert told in line
        assert f"pip install 'fsclip-jax[{extra}]'" in line
    assert [file.name for file in tmp_path.iterdir()] == ["test.json"]


def test_a_damaged_package_is_one_line_too(tmp_path, monkeypatch, capsys):
    from fsclip_jax.cli.main import main

    (tmp_path / "pycocotools").mkdir()
    (tmp_path / "pycocotools" / "__init__.py").write_text("")
    (tmp_path / "pycocotools" / "mask.py").write_text(
        "raise ValueError('numpy.dtype size changed')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "pycocotools"]:
        monkeypatch.delitem(sys.modules, name)
    assert main(["scenes", "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "pycocotools (numpy.dtype size changed)" in line
    for name in [name for name in sys.modules if name.partition(".")[0] == "pycocotools"]:
        monkeypatch.delitem(sys.modules, name)


def always_there():
    """Distributions that an installation without any extra brings."""
    found, waiting = set(), list(PROJECT["dependencies"])
    while waiting:
        wanted = Requirement(waiting.pop())
        name = plain(wanted.name)
        extras = wanted.extras or {""}
        if name in found or not (
            wanted.marker is None or any(wanted.marker.evaluate({"extra": e}) for e in extras)
        ):
            continue
        found.add(name)
        waiting += [one for one in requires(wanted.name) or () if "extra ==" not in one]
    return found


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def imported():
    """Top-level modules that some line of the package imports."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from (one.name.partition(".")[0] for one in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield node.module.partition(".")[0]


def test_what_may_be_missing_is_known_and_in_its_extra():
    there, of = always_there(), packages_distributions()
    names = set(imported()) - sys.stdlib_module_names - {"fsclip_jax"}
    optional = {name for name in names if not {plain(one) for one in of.get(name, ())} & there}
    assert optional == set(EXTRA)
    for name, extra in EXTRA.items():
        wanted = PROJECT["optional-dependencies"][extra]
        brought = {plain(one) for one in of.get(name, [name])}
        assert brought & {plain(Requirement(one).name) for one in wanted}


@pytest.mark.parametrize("words", [["--help"], ["detect", "--help"], ["methods"]])
def test_the_rest_works_without_any_extra(words):
    assert run_without(EXTRA, [words]) == [[0, ""]]
