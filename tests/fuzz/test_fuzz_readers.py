"""A little of the fuzzing of ``scripts/fuzz.py``, the same inputs every time."""

import json
import math
import random
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from fuzz_inputs import spoil
from fuzz_targets import TARGETS
from fuzz_watch import OUT, RanCodeError, attempt
from hypothesis import given, settings
from hypothesis import strategies as st
from memory import peak_kib

from fsclip_jax.adapters.checkpoint import load_adapter
from fsclip_jax.clip.pickles import read_torch
from fsclip_jax.errors import UserError
from fsclip_jax.report.rows import report_from_json

FOUND = Path(__file__).parent / "found"
"""Inputs that ended a reader once, by its target."""


@pytest.mark.parametrize("name", TARGETS)
def test_honest_files_are_taken(name, tmp_path):
    target = TARGETS[name]
    for data in target.seeds(tmp_path):
        if name == "config":
            attempt(target, tmp_path, data)
        else:
            assert attempt(target, tmp_path, data)


@pytest.mark.parametrize("name", TARGETS)
def test_spoilt_files_are_taken_or_refused(name, tmp_path):
    target, rng = TARGETS[name], random.Random(1)
    seeds = target.seeds(tmp_path)
    slowest = taken = 0
    for _ in range(target.runs):
        data = spoil(rng.choice(seeds), rng, seeds)
        began = time.process_time()
        try:
            taken += attempt(target, tmp_path, data)
        except BaseException as error:
            raise AssertionError(f"{name} fails on {data!r}") from error
        slowest = max(slowest, time.process_time() - began)
    assert 0 < taken < target.runs
    assert slowest < 2


@pytest.mark.parametrize("found", sorted(FOUND.iterdir()), ids=lambda file: file.name)
def test_what_once_broke_a_reader_is_taken_or_refused(found, tmp_path):
    target = TARGETS[found.name.partition("-")[0]]
    target.seeds(tmp_path)
    attempt(target, tmp_path, found.read_bytes())


def test_running_anything_would_be_seen():
    import subprocess

    class Runs:
        def read(self, _folder, _data):
            subprocess.run(["true"], check=False)

    with pytest.raises(RanCodeError, match="Popen"):
        attempt(Runs(), Path(), b"")


def test_removing_anything_else_would_be_seen(tmp_path):
    mine, out = tmp_path / "mine", tmp_path / OUT / "file"

    class Removes:
        def read(self, _folder, data):
            Path(data.decode()).unlink()

    mine.touch()
    with pytest.raises(RanCodeError, match=r"os\.remove"):
        attempt(Removes(), tmp_path, bytes(mine))
    assert mine.exists()
    out.parent.mkdir()
    out.touch()
    assert attempt(Removes(), tmp_path, bytes(out))


NUMBER = st.integers(0, 2**64) | st.sampled_from([2**31 - 1, 2**40, 2**62, 2**63 - 1])


def header(shape, dtype, end):
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}
    text = json.dumps({"q_proj.weight": entry}).encode()
    return struct.pack("<Q", len(text)) + text


@given(
    shape=st.lists(NUMBER, max_size=4),
    dtype=st.sampled_from(["F32", "F16", "BF16", "F64", "I8", "U64", "BOOL", "F8_E4M3", "X"]),
    end=NUMBER,
    length=st.none() | NUMBER,
)
def test_a_header_that_announces_terabytes_costs_nothing(
    tmp_path_factory, shape, dtype, end, length
):
    path = tmp_path_factory.getbasetemp() / "huge.safetensors"
    data = header(shape, dtype, end)
    if length is not None:
        data = struct.pack("<Q", length % 2**64) + data[8:]
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(UserError):
        load_adapter(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@settings(max_examples=50)
@given(shape=st.lists(NUMBER, min_size=1, max_size=5), strides=st.lists(NUMBER, max_size=5))
def test_a_tensor_that_announces_terabytes_costs_nothing(tmp_path_factory, shape, strides):
    def number(value):
        return b"\x8a\x09" + value.to_bytes(9, "little")

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value

    count = number(math.prod(shape) % 2**63)
    program = b"\x80\x02}" + text(b"a") + b"ctorch._utils\n_rebuild_tensor_v2\n(("
    program += text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0") + text(b"cpu") + count
    program += b"tQ" + number(0) + b"(" + b"".join(map(number, shape)) + b"t("
    program += b"".join(map(number, strides)) + b"t\x89ccollections\nOrderedDict\n)RtRs."
    path = tmp_path_factory.getbasetemp() / "huge.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", bytes(64))
    tracemalloc.start()
    try:
        found = read_torch(path)
        assert all(tensor.size <= 16 for tensor in found.values())
    except UserError:
        pass
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
PARTS = ["rows", "data", "backbone", "settings", "checkpoints", "versions", "warning", "details"]


@given(tree=st.dictionaries(st.sampled_from([*PARTS, "schema", "device"]), JSON))
def test_any_json_is_a_report_or_refused_in_a_line(tree):
    text = json.dumps({"schema": 1, "rows": [{}], **tree})
    with pytest.raises(UserError):
        report_from_json(text)


def test_json_without_end_is_refused(tmp_path):
    before = peak_kib()
    for name in ("report", "coco", "bank"):
        target = TARGETS[name]
        target.seeds(tmp_path)
        for deep in (b"[" * 100_000, b'{"a":' * 100_000, b"0" + b"[" * 100_000):
            assert not attempt(target, tmp_path, deep)
    assert peak_kib() - before < 1 << 20
