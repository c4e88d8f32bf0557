"""What a file of features says of its sizes decides neither memory nor time."""

import io
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from torch_archives import Op, write_zip

from fsclip_jax.errors import UserError
from fsclip_jax.features.importing import import_npz
from fsclip_jax.features.store import open_bank

MEGABYTES = 60
"""What may be allocated over reading one of these files, all of them smaller than 2 MB."""


def usual(**changes):
    rng = np.random.default_rng(0)
    given = {
        "features": rng.normal(size=(6, 4)).astype(np.float32),
        "labels": np.array([0, 1, 2, 0, 1, 2]),
        "text_features": np.eye(3, 4, dtype=np.float32),
    }
    return given | changes


def npy(shape, descr="<f4", body=b"", fortran=False, version=1):
    header = f"{{'descr': {descr!r}, 'fortran_order': {fortran}, 'shape': {shape}, }}".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + body


def as_npy(array):
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def write(path, method=zipfile.ZIP_STORED, twice=(), **changes):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in usual(**changes).items():
            array = content if isinstance(content, bytes) else as_npy(content)
            archive.writestr(f"{name}.npy", array)
        for name in twice:
            info = zipfile.ZipInfo(name)  # zipfile warns of a name, not of another spelling
            archive.writestr(info, as_npy(np.zeros(3)))


def refused(path, out):
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            import_npz(path, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1000
    assert peak < MEGABYTES * 2**20, f"{peak / 2**20:.0f} MB"
    assert not out.exists()
    return line


HUGE = {
    "rows": ({"features": npy((10**9, 512))}, "announces the shape [1000000000, 512]"),
    "labels": ({"labels": npy((10**12,), "<i8")}, "labels announces the shape"),
    "version 2": ({"features": npy((10**9, 512), version=2)}, "announces the shape"),
    "negative": ({"features": npy((-6, -4), body=bytes(96))}, "announces the shape"),
    "overflowing": ({"features": npy((2**62, 2**62, 4))}, "announces the shape"),
    "nothing, often": ({"labels": npy((10**15, 0), "<i8")}, "labels has shape"),
    "no bytes each": ({"labels": npy((10**15,), "<U0")}, "labels has type <U0"),
    "wide strings": ({"key": npy((6,), "<U100000000")}, "key announces the shape [6]"),
    "structures": ({"labels": npy((6,), "|V1000000")}, "labels has type |V1000000"),
    "dates": ({"labels": np.zeros(6, "M8[s]")}, "labels has type datetime64[s]"),
    "objects": ({"features": npy((10**9,), "|O")}, "never unpickled"),
    "complex": ({"features": np.ones((6, 4), complex)}, "features has type complex128"),
    "truth": ({"features": np.ones((6, 4), bool)}, "features has type bool"),
    "header beyond the end": ({"features": b"\x93NUMPY\x01\x00\xff\xff{"}, "cannot be read"),
    "header of brackets": ({"features": npy("(" * 5000 + ")" * 5000)}, "cannot be read"),
    "header of signs": ({"features": npy("(" + "-" * 9000 + "1,)")}, "cannot be read"),
    "too short": ({"features": npy((6, 4), body=bytes(95))}, "and 95 bytes follow"),
    "too long": ({"features": npy((6, 4), body=bytes(97))}, "and 97 bytes follow"),
    "0 axes": ({"features": np.float32(1)}, "features has shape []"),
    "no rows": ({"features": np.ones((0, 4), np.float32)}, "features has shape [1, 0, 4]"),
    "no width": ({"features": np.ones((6, 0), np.float32)}, "features has shape [1, 6, 0]"),
    "no labels": ({"labels": np.zeros((0, 0), int)}, "labels has shape [0, 0]"),
    "label 2^40": ({"labels": np.array([0, 1, 2**40, 0, 1, 2])}, "labels holds 1099511627776"),
    "label -1": ({"labels": np.array([0, 1, -1, 0, 1, 2])}, "labels holds -1"),
    "label 2^63": ({"labels": np.array([0, 1, 2**63, 0, 1, 2], np.uint64)}, "labels holds 92233"),
    "floating label": ({"labels": np.zeros(6)}, "labels has type float64"),
    "label words": ({"labels": np.array([["a"]] * 6)}, "labels has shape [6, 1]"),
    "domain 2^40": ({"domain": np.array([0, 1, 2**40, 0, 1, 2])}, "domain holds 1099511627776"),
    "domain 2^63": ({"domain": np.full(6, 2**63, np.uint64)}, "domain holds 9223372036854775808"),
    "scale 1e308": ({"logit_scale": np.float64(1e308)}, "the logit scale is 1e+308; accepted are"),
    "scale inf": ({"logit_scale": np.float64("inf")}, "the logit scale is inf"),
    "scale nan": ({"logit_scale": np.float64("nan")}, "the logit scale is nan"),
    "scale 0": ({"logit_scale": np.array([0])}, "the logit scale is 0"),
    "float64 beyond float32": ({"features": np.full((6, 4), 1e200)}, "features row 0 is zero, or"),
    "lengths beyond float32": (
        {"text_features": np.full((3, 4), 1e30, np.float32)},
        "text_features row 0",
    ),
    "long doubles": ({"features": np.full((6, 4), np.finfo("g").max, "g")}, "features row 0"),
    "prompts beyond": ({"prompt_features": np.full((1, 3, 4), 1e300)}, "value that is not finite"),
}


@pytest.mark.parametrize("name", HUGE)
def test_every_size_is_held_against_the_bytes_that_are_there(tmp_path, name):
    changes, told = HUGE[name]
    write(tmp_path / "f.npz", **changes)
    assert told in refused(tmp_path / "f.npz", tmp_path / "bank")


def test_two_arrays_of_one_name(tmp_path):
    write(tmp_path / "f.npz", twice=["labels"])
    assert "two arrays of one name" in refused(tmp_path / "f.npz", tmp_path / "bank")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_way_to_compress_that_numpy_does_not_write(tmp_path, method):
    write(tmp_path / "f.npz", method)
    assert "compressed in a way" in refused(tmp_path / "f.npz", tmp_path / "bank")


@pytest.mark.parametrize(("size", "told"), [(2**27, "bytes follow"), (2**30, "it unpacks to 107")])
def test_a_size_that_the_directory_makes_up(tmp_path, size, told):
    path = tmp_path / "f.npz"
    write(path, zipfile.ZIP_DEFLATED, labels=np.zeros(6, np.int64))
    content = bytearray(path.read_bytes())
    at = content.rindex(b"labels.npy") - 46 + 24  # the uncompressed size in the central directory
    content[at : at + 4] = struct.pack("<I", size)
    path.write_bytes(content)
    assert told in refused(path, tmp_path / "bank")


LAID_OUT = {
    "columns first": np.asfortranarray,
    "big-endian": lambda x: x.astype(">f8"),
    "float16": lambda x: x.astype(np.float16),
    "long double": lambda x: x.astype("g"),
    "a view": lambda x: np.stack([x, x]),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", LAID_OUT)
def test_every_way_that_numpy_writes_numbers_arrives(tmp_path, name, method):
    given = usual()["features"]
    write(tmp_path / "f.npz", method, features=LAID_OUT[name](given), domain=np.arange(6) * 9)
    import_npz(tmp_path / "f.npz", tmp_path / "bank", dtype="float32")
    bank = open_bank(tmp_path / "bank")
    unit = given / np.linalg.norm(given, axis=-1, keepdims=True)
    np.testing.assert_allclose(bank.features[0], unit, atol=1e-3)
    assert bank.domains.tolist() == [0, 9, 18, 27, 36, 45]


def archive(path, program, storages):
    write_zip(path, program.raw(b"u").done(), storages)


@pytest.mark.parametrize("shape", [(10**9, 512), (2**62, 4), (2**62, 2**62)])
def test_shapes_of_pytorchs_tensors(tmp_path, shape):
    program = Op().raw(b"}(").text("features")
    program.tensor("0", "FloatStorage", 24, 0, shape, (0, 1))
    archive(tmp_path / "f.pt", program, {"0": bytes(96)})
    assert "refused" in refused(tmp_path / "f.pt", tmp_path / "bank")


def test_one_storage_in_many_tensors(tmp_path):
    program = Op().raw(b"}(")
    for i in range(1000):
        program.text(f"features{i}").tensor("0", "FloatStorage", 2**17, 0, (2**17,), (1,))
    archive(tmp_path / "f.pt", program, {"0": bytes(2**19)})
    line = refused(tmp_path / "f.pt", tmp_path / "bank")
    assert "tensors of more than 8 times the bytes that it holds" in line


def test_one_long_word_among_many_short_ones(tmp_path):
    program = Op().raw(b"}(").text("features").array("0", usual()["features"])
    program.text("class_names").raw(b"](").text("x" * 100_000)
    for _ in range(10_000):
        program.text("y")
    archive(tmp_path / "f.pt", program.raw(b"e"), {"0": bytes(96)})
    assert "as arrays" in refused(tmp_path / "f.pt", tmp_path / "bank")
