"""Parts of a run: kept until its result is written, and never taken for those of another run."""

import json

import numpy as np
import pytest

from fsclip_jax.errors import UserError
from fsclip_jax.interim import Interim, content_sum


def never():
    raise AssertionError("it was kept")


def test_the_next_run_goes_on_with_what_is_there(tmp_path):
    said = []
    first = Interim(tmp_path / ".run", {"seed": 0}, said.append)
    arrays = {"a": np.arange(6.0).reshape(2, 3).T, "none": np.zeros((0, 4), np.float32)}
    first.arrays("one", lambda: arrays)
    assert first.value("two", lambda: {"x": (1, 0.1)}) == {"x": [1, 0.1]}
    assert said == []
    again = Interim(tmp_path / ".run", {"seed": 0}, said.append)
    assert said == ["going on: 2 parts of an earlier run are there"]
    kept = again.arrays("one", never)
    assert {name: array.dtype for name, array in kept.items()} == {
        name: array.dtype for name, array in arrays.items()
    }
    np.testing.assert_array_equal(kept["a"], arrays["a"])
    assert again.value("two", never) == {"x": [1, 0.1]}
    again.finish()
    assert not (tmp_path / ".run").exists()


def test_parts_of_other_inputs_are_thrown_away_and_that_is_said(tmp_path):
    said = []
    Interim(tmp_path / ".run", {"seed": 0}).value("a", lambda: 1)
    other = Interim(tmp_path / ".run", {"seed": 1}, said.append)
    assert "other inputs or settings" in said[0]
    assert other.value("a", lambda: 2) == 2
    (
        tmp_path / ".run" / "made_with.json"
    ).unlink()  # as after a crash: whose parts they are is lost
    assert Interim(tmp_path / ".run", {"seed": 1}).value("a", lambda: 3) == 3


def test_a_part_that_the_disk_has_spoilt_is_made_again(tmp_path):
    interim = Interim(tmp_path / ".run", {})
    interim.value("a", lambda: [1])
    interim.arrays("b", lambda: {"x": np.ones(3)})
    for file in (tmp_path / ".run").glob("*.part"):
        file.write_bytes(file.read_bytes()[:-1])
    assert interim.value("a", lambda: [2]) == [2]
    assert interim.arrays("b", lambda: {"x": np.zeros(3)})["x"].tolist() == [0, 0, 0]


def test_names_may_hold_anything_and_prefixes_keep_them_apart(tmp_path):
    interim = Interim(tmp_path / ".run", {})
    assert interim.value("../a/\n", lambda: 1) == 1
    assert interim.within("val").value("a", lambda: 2) == 2
    assert interim.within("test").value("a", lambda: 3) == 3
    assert interim.within("val").value("a", never) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".run"]


def test_a_folder_that_cannot_be_made_is_a_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        Interim(tmp_path / "file" / ".run", {})


def test_the_sum_of_contents_sees_every_change(tmp_path):
    files = [tmp_path / "a", tmp_path / "b"]
    files[0].write_bytes(b"one")
    sums = {content_sum(files)}
    files[1].write_bytes(json.dumps(1).encode())
    sums.add(content_sum(files))
    files[0].write_bytes(b"two")
    sums |= {content_sum(files), content_sum(files[::-1]), content_sum(files[:1])}
    assert len(sums) == 5
