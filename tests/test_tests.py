"""Rules that the tests themselves keep."""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PUBLIC = ("_replace", "_fields", "_asdict")
FILES = sorted(HERE.rglob("*.py"))


def private_names(tree):
    """Names of the package that begin with an underscore, wherever a file reads one."""
    ours = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fsclip_jax"):
            for name in node.names:
                ours.add(name.asname or name.name)
                if name.name.startswith("_"):
                    yield name.name
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            inner = node.value
            while isinstance(inner, ast.Attribute):
                inner = inner.value
            known = isinstance(inner, ast.Name) and inner.id in ours
            if known and node.attr not in PUBLIC and not node.attr.endswith("__"):
                yield node.attr
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            dotted = node.value
            if dotted.startswith("fsclip_jax.") and "._" in dotted:
                yield dotted


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(HERE).as_posix())
def test_no_test_reads_a_private_name(file):
    assert not list(private_names(ast.parse(file.read_text("utf-8"))))


def test_private_names_are_found():
    spied = ".".join(["fsclip_jax", "a", "_g"])
    read = f"from fsclip_jax.a import b, _c\nb._d()\nb.e._f\nspy('{spied}')\nb._replace()"
    assert sorted(private_names(ast.parse(read))) == ["_c", "_d", "_f", spied]
