"""A bank comes back as it was written, and whatever is wrong with one is told in one line."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from sample_banks import description, random_rows

from fsclip_jax import durable
from fsclip_jax.errors import UserError
from fsclip_jax.features.layout import Rows, pack_strings, partial_name, unpack_strings
from fsclip_jax.features.store import open_bank
from fsclip_jax.features.writing import write_bank


@given(
    seed=st.integers(0, 1000),
    views=st.integers(1, 3),
    n=st.integers(1, 17),
    dim=st.integers(1, 9),
    classes=st.integers(1, 5),
    families=st.integers(0, 3),
    shard=st.integers(1, 20),
    dtype=st.sampled_from(["float16", "float32"]),
)
@settings(max_examples=30, deadline=None)
def test_round_trip(tmp_path_factory, seed, views, n, dim, classes, families, shard, dtype):
    rows = random_rows(seed, views, n, dim, classes, families)
    about = description(dim=dim, classes=classes, families=families)
    place = tmp_path_factory.mktemp("round") / "bank"
    write_bank(place, rows, about, shard=shard, dtype=dtype)
    bank = open_bank(place, verify=True)
    tolerance = 1e-6 if dtype == "float32" else 2e-3
    np.testing.assert_allclose(bank.features, rows.features, atol=tolerance)
    np.testing.assert_allclose(np.linalg.norm(bank.features, axis=-1), 1, atol=1e-6)
    np.testing.assert_array_equal(bank.labels, rows.labels)
    np.testing.assert_array_equal(bank.splits, rows.splits)
    assert bank.keys == tuple(rows.keys)
    if families:
        np.testing.assert_array_equal(bank.domains, rows.domains)
    else:
        assert bank.domains is None
    assert bank.class_names == tuple(about.class_names)
    assert bank.domain_names == tuple(about.domain_names)
    np.testing.assert_allclose(bank.text_features, about.text_features, atol=1e-6)
    np.testing.assert_array_equal(bank.text_lengths, about.text_lengths)
    assert sorted(os.listdir(place.parent)) == ["bank"]
    assert sum(bank.manifest["splits"].values()) == bank.manifest["n"] == n


@given(st.lists(st.text(max_size=8), max_size=8))
def test_strings_come_back(strings):
    assert unpack_strings(*pack_strings(strings)) == tuple(strings)


def test_a_file_name_that_is_not_utf8_comes_back():
    name = os.fsdecode(b"class/\xff.png")
    assert unpack_strings(*pack_strings([name])) == (name,)


def edit(path, **changes):
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | changes))


def forget(path, name):
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest[name]
    (path / "manifest.json").write_text(json.dumps(manifest))


def respell(path, name, change, file="shard-00001.safetensors"):
    """Change a tensor and make the manifest agree in size, as a faulty writer would."""
    tensors = load_file(path / file)
    tensors[name] = change(tensors[name])
    save_file(tensors, path / file)
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][file]["bytes"] = (path / file).stat().st_size
    (path / "manifest.json").write_text(json.dumps(manifest))


def overwrite(path, at, data):
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(data)


def first_to(value):
    def change(array):
        array = array.copy()
        array.flat[0] = value
        return array

    return change


SHARD = "shard-00001.safetensors"
SPOILS = {
    "manifest gone": (lambda p: (p / "manifest.json").unlink(), "is not a bank"),
    "manifest cut": (lambda p: os.truncate(p / "manifest.json", 99), "manifest.json is damaged"),
    "not utf-8": (lambda p: (p / "manifest.json").write_bytes(b"\xff\xfe\x00"), "as JSON"),
    "a list": (lambda p: (p / "manifest.json").write_text("[]"), "fsclip_bank"),
    "newer format": (lambda p: edit(p, format_version=4), "format version 4; this program reads 1"),
    "text and none": (
        lambda p: edit(p, format_version=2),
        "has no text and lists text.safetensors",
    ),
    "no names": (lambda p: forget(p, "class_names"), "required field `class_names`"),
    "wrong type": (lambda p: edit(p, n="13"), r"Expected `int`, got `str` - at `\$.n`"),
    "dtype": (lambda p: edit(p, dtype="int4"), r"'int4' - at `\$.dtype`"),
    "wrong n": (lambda p: edit(p, n=12), "not the sum over the shards"),
    "wrong dim": (lambda p: edit(p, dim=7), "not F32 .*7"),
    "wrong views": (lambda p: edit(p, views=3), "features is F32"),
    "too few names": (lambda p: edit(p, class_names=["a"]), "number of class names"),
    "names not text": (
        lambda p: edit(p, class_names=[1, 2, 3, 4]),
        "Expected `str`, got `int` - at `.*class_names",
    ),
    "scale": (lambda p: edit(p, logit_scale=float("nan")), "logit.scale"),
    "large scale": (lambda p: edit(p, logit_scale=float("inf")), "logit.scale"),
    "strange file": (
        lambda p: edit(p, files={"../x": {"bytes": 1, "sha256": "", "n": 1}}),
        "list of shards",
    ),
    "no files": (lambda p: edit(p, files={}), "list of shards"),
    "files not entries": (
        lambda p: edit(p, files={SHARD: 3}),
        "shard-00001.*: Expected `obj",
    ),
    "shard gone": (lambda p: (p / SHARD).unlink(), f"{SHARD} is missing"),
    "shard cut": (lambda p: os.truncate(p / SHARD, 150), f"{SHARD} is damaged: it has 150 bytes"),
    "shard header": (lambda p: overwrite(p / SHARD, 8, b"!!!!"), f"{SHARD} is damaged"),
    "label": (lambda p: respell(p, "labels", first_to(4)), "label 4; accepted: 0 to 3"),
    "split": (lambda p: respell(p, "split", first_to(-1)), "split -1; accepted: 0 to 2"),
    "domain": (lambda p: respell(p, "domain", first_to(0)), "domain 0"),
    "keys": (lambda p: respell(p, "key_offsets", first_to(3)), "keys cannot be told apart"),
    "label type": (lambda p: respell(p, "labels", lambda x: x.astype("f4")), "labels is F32"),
    "text gone": (lambda p: (p / "text.safetensors").unlink(), "text.safetensors is missing"),
    "text nan": (
        lambda p: respell(p, "text_features", first_to(np.nan), "text.safetensors"),
        "text feature is not finite",
    ),
    "text length": (
        lambda p: respell(p, "text_lengths", first_to(0), "text.safetensors"),
        "a text length is not finite or not positive",
    ),
    "text lengths": (
        lambda p: respell(p, "text_lengths", lambda x: x[:2].copy(), "text.safetensors"),
        r"text_lengths is float32 \[2\]",
    ),
    "text shape": (
        lambda p: respell(p, "text_features", lambda x: x[:2].copy(), "text.safetensors"),
        "text_features is float32",
    ),
}


@pytest.mark.parametrize("name", SPOILS)
def test_a_spoilt_bank_is_refused_in_one_line(make_bank, name):
    spoil, line = SPOILS[name]
    path = make_bank().path
    spoil(path)
    with pytest.raises(UserError, match=line) as caught:
        open_bank(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_flipped_bit_is_found_by_verify_alone(make_bank):
    path = make_bank().path
    size = (path / SHARD).stat().st_size
    overwrite(path / SHARD, size - 1, b"\x7f")
    open_bank(path)
    with pytest.raises(UserError, match=f"{SHARD} is damaged: its sha256"):
        open_bank(path, verify=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_that_is_not_finite_is_refused_when_read(make_bank, value):
    path = make_bank().path
    respell(path, "features", first_to(value))
    with pytest.raises(UserError, match=f"{SHARD} holds a feature that is not finite"):
        open_bank(path).select(["train", "val", "test"])


def test_a_zero_feature_is_refused_when_read(make_bank):
    path = make_bank().path
    respell(path, "features", lambda x: x * 0)
    with pytest.raises(UserError, match="is zero"):
        _ = open_bank(path).features


def test_no_bank(tmp_path):
    with pytest.raises(UserError, match="there is no bank at"):
        open_bank(tmp_path / "nowhere")
    (tmp_path / "cut.partial").mkdir()
    with pytest.raises(UserError, match="unfinished one is beside it"):
        open_bank(tmp_path / "cut")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="has no manifest"):
        open_bank(tmp_path / "empty")


def test_nothing_is_overwritten(make_bank, tmp_path):
    make_bank()
    with pytest.raises(UserError, match="exists already"):
        make_bank()
    (tmp_path / "empty").mkdir()
    make_bank("empty")


@pytest.mark.parametrize("call", range(9))
def test_a_full_disk_leaves_nothing_that_looks_whole(tmp_path, monkeypatch, call):
    """Let the n-th flush fail, for every n that a write of two shards has."""
    done = iter(range(100))
    flush = os.fsync

    def full(handle):
        if next(done) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    monkeypatch.setattr(durable.os, "fsync", full)
    rows = random_rows(n=8)
    place = tmp_path / "bank"
    with pytest.raises(UserError, match="no space left to write"):
        write_bank(place, rows, description(), shard=4)
    assert not place.exists()
    assert not list(partial_name(place).glob("*.tmp"))
    monkeypatch.undo()
    write_bank(place, rows, description(), shard=4)
    assert len(open_bank(place, verify=True).labels) == 8


@pytest.mark.skipif(os.name == "nt", reason="limits of a process exist on POSIX only")
def test_a_real_limit_of_size_is_told_in_one_line(tmp_path):
    """The kernel refuses the write (EFBIG): the nearest to a full disk without a disk to fill."""
    code = f"""
import resource
from pathlib import Path
from fsclip_jax.errors import UserError
from fsclip_jax.durable import write_file
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_file(Path({str(tmp_path / "f")!r}), bytes(5000))
except UserError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("no space left to write")
    assert not os.listdir(tmp_path)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_bank(tmp_path / "file" / "bank", random_rows(), description())


def test_an_empty_shard_is_no_trouble(make_bank):
    rows = random_rows(n=5)
    bank = make_bank(rows=rows, shard=5)
    assert len(bank.shards) == 1
    none = Rows(rows.features[:, :0], rows.labels[:0], rows.splits[:0], [], rows.domains[:0])
    with pytest.raises(UserError, match=r"Expected `int` >= 1"):
        make_bank("none", rows=none)


def test_prompts_of_another_shape_are_damage(tmp_path):
    about = description(prompt_features=np.ones((2, 3, 6), np.float32))
    with pytest.raises(UserError, match=r"prompt_features is F32 \[2, 3, 6\]"):
        write_bank(tmp_path / "bank", random_rows(), about)
