"""Features by the content of the picture: kept up to a size, and never in the way."""

import sqlite3

import numpy as np
import pytest

from fsclip_jax.features.kept import KeptFeatures


def vector(number, dim=64):
    return np.full(dim, number, np.float32)


def test_what_was_put_is_got_by_any_process_that_looks(tmp_path):
    file = tmp_path / "deep" / "pictures.sqlite"
    many = {f"{n}".encode(): vector(n) for n in range(1200)}  # more than one query holds
    KeptFeatures(file).put(many)
    found = KeptFeatures(file).get([*many, b"another"], 64)
    assert found.keys() == many.keys()
    np.testing.assert_array_equal(found[b"7"], vector(7))
    assert KeptFeatures(file).get(list(many), 32) == {}  # of another width: another CLIP


def test_the_file_stays_below_its_size_and_keeps_what_came_last(tmp_path):
    kept = KeptFeatures(tmp_path / "k.sqlite", most_bytes=200_000)
    for n in range(40):
        kept.put({f"{n}.{i}".encode(): vector(n, 256) for i in range(20)})
    assert kept.file.stat().st_size < 300_000
    assert len(kept.get([f"39.{i}".encode() for i in range(20)], 256)) == 20
    assert kept.get([b"0.0"], 256) == {}


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(90), b""])
def test_a_spoilt_file_costs_what_was_kept_and_nothing_else(tmp_path, content):
    kept = KeptFeatures(tmp_path / "k.sqlite")
    kept.file.write_bytes(content)
    assert kept.get([b"a"], 64) == {}
    kept.put({b"a": vector(1)})
    kept.put({b"a": vector(1)})
    assert len(kept.get([b"a"], 64)) == 1


def test_where_nothing_can_be_kept_nothing_is(tmp_path):
    (tmp_path / "file").write_text("in the way of a folder")
    kept = KeptFeatures(tmp_path / "file" / "k.sqlite")
    kept.put({b"a": vector(1)})
    assert kept.get([b"a"], 64) == {}


def test_nothing_that_a_file_holds_is_run(tmp_path):
    """A view in the place of the table may call functions, of those that load files."""
    kept = KeptFeatures(tmp_path / "k.sqlite")
    with sqlite3.connect(kept.file) as base:
        base.execute("CREATE VIEW features AS SELECT x'61' AS key, load_extension('x') AS vector")
    base.close()
    assert kept.get([b"a"], 64) == {}
