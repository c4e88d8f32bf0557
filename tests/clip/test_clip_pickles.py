"""The reader of ``.pt`` files: what PyTorch writes is read, and nothing is ever run."""

import argparse
import builtins
import copyreg
import functools
import operator
import os
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_archives import Op, pickle_of, write_state_dict, write_zip

from fsclip_jax.clip.pickles import read_torch
from fsclip_jax.errors import UserError

FLAG = "fsclip_pickle_was_run"


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not hasattr(builtins, FLAG)
    assert not (tmp_path / FLAG).exists()


def refused(path, *named):
    with pytest.raises(UserError) as caught:
        read_torch(path)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500 + len(str(path))
    for part in named:
        assert part in line
    return line


TENSORS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.arange(3, dtype=np.float16),
    "b.c.d": np.array(2.5, np.float64),
    "b.c.steps": np.array(7, np.int64),
    "e": np.arange(4, dtype=ml_dtypes.bfloat16),
    "none": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("scripted", [False, True])
def test_tensors_come_back_under_their_names(scripted, tmp_path):
    held = read_torch(write_state_dict(tmp_path / "a.pt", TENSORS, scripted=scripted))
    assert set(held) == set(TENSORS)
    for key, array in TENSORS.items():
        assert held[key].dtype == array.dtype
        np.testing.assert_array_equal(held[key], array)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_what_pytorch_saves_is_read(protocol, tmp_path):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    whole = torch.arange(24.0).reshape(4, 6)
    saved = {
        **layer.state_dict(),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
        "view": whole.T[1:4, ::2],
        "half": whole.half(),
        "bfloat16": whole.bfloat16(),
        "same": whole,
    }
    path = tmp_path / "saved.pt"
    torch.save(saved, path, pickle_protocol=protocol)
    held = read_torch(path)
    assert set(held) == set(saved)
    for key, tensor in saved.items():
        np.testing.assert_array_equal(
            held[key].astype(np.float32), tensor.detach().float().numpy(), err_msg=key
        )


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["state_dict", "model_state_dict", "model", "module", "net"])
def test_the_weights_in_a_training_checkpoint_are_found(name, zipped, tmp_path):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    path = tmp_path / "epoch_3.pt"
    torch.save(
        {
            "epoch": 3,
            "name": "run",
            "optimizer": optimizer.state_dict(),
            name: layer.state_dict(),
        },
        path,
        _use_new_zipfile_serialization=zipped,
    )
    held = read_torch(path)
    np.testing.assert_array_equal(held["weight"], layer.weight.detach().numpy())
    assert set(held) == {"weight", "bias"}


@pytest.mark.parametrize("zipped", [True, False])
def test_schedulers_and_settings_that_are_saved_whole_are_passed_over(zipped, tmp_path):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(3, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50)
    layer(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    saved = {
        "state_dict": layer.state_dict(),
        "epoch": 50,
        "optimizer": optimizer.state_dict(),
        "scheduler": {"successor": cosine, "last_epoch": 50},  # as Dassl's warm-up keeps it
        "args": argparse.Namespace(lr=0.1, name="run"),
    }
    path = tmp_path / "model.pth.tar-50"
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    held = read_torch(path)
    assert set(held) == {"weight", "bias"}
    np.testing.assert_array_equal(held["bias"], layer.bias.detach().numpy())


def test_weights_in_several_places_are_named(tmp_path):
    torch = pytest.importorskip("torch")
    held = torch.nn.Linear(3, 4).state_dict()
    torch.save({"student": held, "teacher": held}, tmp_path / "two.pt")
    refused(tmp_path / "two.pt", "'student', 'teacher'", "does not say which")
    torch.save({"loss": torch.tensor(1.0), "epoch": 3, "net": held}, tmp_path / "beside.pt")
    assert set(read_torch(tmp_path / "beside.pt")) == {"weight", "bias"}
    torch.save({**held, "epoch": 3}, tmp_path / "among.pt")
    assert set(read_torch(tmp_path / "among.pt")) == {"weight", "bias"}
    torch.save({"model": held, "model_ema": held}, tmp_path / "named.pt")
    assert set(read_torch(tmp_path / "named.pt")) == {"weight", "bias"}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_torchscript_archive_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4)).eval().half()
    path = tmp_path / "scripted.pt"
    torch.jit.script(model).save(str(path))
    held = read_torch(path)
    assert set(held) == set(model.state_dict())
    for key, tensor in model.state_dict().items():
        np.testing.assert_array_equal(held[key], tensor.numpy())


class Call:
    """Pickles to a call of any function with any arguments."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


class State:
    """Pickles to an object whose state is set by a call."""

    def __reduce__(self):
        return copyreg.__newobj__, (State,), {"x": Call(exec, f"import builtins;builtins.{FLAG}=1")}


RUN = f"import builtins; builtins.{FLAG} = True"
HOSTILE = {
    "exec": Call(exec, RUN),
    "eval": Call(eval, f"setattr(__import__('builtins'), '{FLAG}', 1)"),
    "os.system": Call(os.system, f"touch {FLAG}"),
    "getattr": Call(getattr, Call(__import__, "os"), "system"),
    "partial": functools.partial(exec, RUN),
    "attrgetter": Call(operator.attrgetter("system"), os),
    "import": Call(__import__, "os"),
    "nested": {"state_dict": {"a": [({"b": Call(exec, RUN)},)]}},
    "as a key": {("x", Call(exec, RUN)): 1},
    "state": State(),
    "type": bytes,
    "loads": Call(pickle.loads, pickle.dumps(Call(exec, RUN))),
}


@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.parametrize("name", HOSTILE)
def test_calls_are_refused(name, scripted, tmp_path):
    if name == "attrgetter":
        program = Op().name("operator", "attrgetter").raw(b"(").text("system").raw(b"tR").done()
    else:
        program = pickle_of(HOSTILE[name])
    refused(write_zip(tmp_path / "a.pt", program, scripted=scripted), "is refused: it asks for")


NAMES = {
    "posix": Op().name("posix", "system").raw(b"(").text(f"touch {FLAG}").raw(b"tR"),
    "old opcode i": Op().raw(b"(").text(f"touch {FLAG}").raw(b"iposix\nsystem\n"),
    "old opcode o": Op().raw(b"(").name("posix", "system").text(f"touch {FLAG}").raw(b"o"),
    "torch.load": Op().name("torch", "load").raw(b"(").text("x").raw(b"tR"),
    "torch._utils": Op().name("torch._utils", "_import_dotted_name"),
    "submodule": Op().name("collections", "OrderedDict.fromkeys"),
    "a call of what is only kept": Op().name("torch.optim.sgd", "SGD").raw(b")R"),
    "an object from arguments": Op().name("argparse", "Namespace").text("a").raw(b"\x85\x81"),
    "beside what is kept": Op().name("torch.optimus", "SGD"),
    "a function beside it": Op().name("argparse", "open"),
    "extension": Op().raw(b"\x82\x01"),
    "newobj_ex": Op().name("collections", "OrderedDict").raw(b")}\x92"),
    "stack name": Op().text("os").text("system").raw(b"\x93"),
    "module that looks like TorchScript": Op().name("__torch__os", "system"),
}


@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_names_and_opcodes_that_no_tensor_needs_are_refused(name, scripted, tmp_path):
    path = write_zip(tmp_path / "a.pt", NAMES[name].done(), scripted=scripted)
    refused(path, "is refused: it")


MISUSED = {
    "an OrderedDict with content": Op().name("collections", "OrderedDict").raw(b"(](").raw(b"etR"),
    "the inside of a function": Op()
    .name("torch._utils", "_rebuild_tensor_v2")
    .raw(b"N}(")
    .text("__defaults__")
    .raw(b")u\x86b"),
    "the inside of a list": Op().raw(b"]}b"),
    "an instance of a function": Op().name("torch._utils", "_rebuild_tensor_v2").raw(b")\x81"),
    "a call of a dict": Op().raw(b"})R"),
    "a call with a list": Op().name("collections", "OrderedDict").raw(b"]R"),
    "a storage that is none": Op().raw(b"(").text("module").raw(b"tQ"),
    "a storage of another type": Op()
    .raw(b"(")
    .text("storage")
    .name("collections", "OrderedDict")
    .text("0")
    .text("cpu")
    .number(1)
    .raw(b"tQ"),
    "a memo that is not there": Op().raw(b"h\x07"),
    "an empty stack": Op().raw(b"0"),
    "a dict of three": Op().raw(b"}(").text("a").raw(b"NNu"),
    "append to a dict": Op().raw(b"}Na"),
    "nothing": Op().raw(b"}"),
    "a list": Op().raw(b"]"),
    "a number": Op().number(3),
    "numbers by name": Op().raw(b"}").text("a").number(3).raw(b"s"),
    "a string": Op().raw(b"}").text("a").text("b").raw(b"s"),
}


@pytest.mark.parametrize("name", MISUSED)
def test_what_builds_no_tensors_is_refused(name, tmp_path):
    refused(write_zip(tmp_path / "a.pt", MISUSED[name].done()), "is refused: it")


def test_nothing_of_this_process_is_changed_by_a_file(tmp_path):
    from fsclip_jax.clip import opcodes, pickles

    before = dict(vars(opcodes)), dict(vars(pickles))
    for index, program in enumerate([*MISUSED.values(), *NAMES.values()]):
        refused(write_zip(tmp_path / f"{index}.pt", program.done()))
    assert (dict(vars(opcodes)), dict(vars(pickles))) == before


@pytest.mark.parametrize(
    ("count", "offset", "shape", "strides", "named"),
    [
        (4, 1, (4,), (1,), "beyond its storage"),
        (4, 0, (2, 2), (3, 1), "beyond its storage"),
        (4, 0, (1000, 1000, 1000), (0, 0, 0), "beyond its storage"),
        (4, -1, (1,), (1,), "no sizes"),
        (4, 0, (2,), (-1,), "no sizes"),
        (4, 0, (2**62,), (1,), "no sizes"),
        (2**40, 0, (4,), (1,), "too short"),
        (4, 0, (2, 2), (1,), "not known"),
        (4, 0, (1,) * 9, (1,) * 9, "not known"),
    ],
)
def test_tensors_stay_inside_their_storage(count, offset, shape, strides, named, tmp_path):
    program = Op().raw(b"}").text("a").tensor("0", "FloatStorage", count, offset, shape, strides)
    path = write_zip(tmp_path / "a.pt", program.raw(b"s").done(), {"0": b"\0" * 16})
    refused(path, named)


def test_storages_that_are_not_there_are_named(tmp_path):
    program = Op().raw(b"}").text("a").array("../../etc/passwd", TENSORS["e"]).raw(b"s").done()
    refused(write_zip(tmp_path / "a.pt", program), "storage '../../etc/passwd' that is not in it")


def test_bombs_are_refused(tmp_path):
    zeros = np.zeros(2**20, np.float32)
    program = Op().raw(b"}").text("a").array("0", zeros).raw(b"s").done()
    path = write_zip(tmp_path / "deflated.pt", program, {"0": zeros.tobytes()}, compress=True)
    assert path.stat().st_size < 2**16
    refused(path, "more bytes than it is long")
    small = write_zip(tmp_path / "b.pt", Op().raw(b"}" + b"0}" * 10).done(), compress=True)
    refused(small, "compressed")


def test_trees_without_end_are_refused(tmp_path):
    # Each module holds the next one twice: 2 ** 40 paths out of a few hundred bytes.
    program = Op().name("__torch__", "M").raw(b")\x81q\x00")
    for _ in range(40):
        program.name("__torch__", "M").raw(b")\x81}(").text("a").raw(b"h\x00").text("b")
        program.raw(b"h\x00ubq\x00")
    refused(write_zip(tmp_path / "wide.pt", program.done(), scripted=True), "without end")
    loop = Op().name("__torch__", "M").raw(b")\x81q\x00}").text("a").raw(b"h\x00sb").done()
    refused(write_zip(tmp_path / "loop.pt", loop, scripted=True), "without end")
    own = Op().raw(b"}q\x00").text("state_dict").raw(b"h\x00s").done()
    refused(write_zip(tmp_path / "own.pt", own), "a named tensor belongs")
    deep = Op().raw(b"]" * 100_000 + b"a" * 99_999).done()
    refused(write_zip(tmp_path / "deep.pt", deep), "no dict of tensors")


def test_other_files_are_named_for_what_they_are(tmp_path):
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"a": 1}))
    refused(tmp_path / "old.pt", "no zip archive", "before 1.6")
    good = write_state_dict(tmp_path / "good.pt", TENSORS).read_bytes()
    (tmp_path / "short.pt").write_bytes(good[:-200])
    refused(tmp_path / "short.pt", "cut short")
    with zipfile.ZipFile(tmp_path / "other.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    refused(tmp_path / "other.pt", "no data.pkl")
    flipped = bytearray(good)
    flipped[good.index(TENSORS["a.weight"].tobytes()) + 2] ^= 1
    (tmp_path / "flipped.pt").write_bytes(flipped)
    refused(tmp_path / "flipped.pt", "truncated or broken")
    write_zip(tmp_path / "endless.pt", Op().raw(b"}").bytes)
    refused(tmp_path / "endless.pt", "truncated or broken")


PIECES = [bytes([op]) for op in b"()[]{}.0123NRQabceostu\x81\x85\x86\x87\x88\x89\x93\x94"]
PIECES += [
    b"q\x00",
    b"h\x00",
    b"K\x01",
    b"X\x01\x00\x00\x00a",
    Op().name("torch", "HalfStorage").bytes,
]
PIECES += [Op().name(*pair).bytes for pair in (("collections", "OrderedDict"), ("__torch__", "M"))]


@settings(max_examples=300)
@given(
    st.one_of(st.binary(max_size=60), st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join)),
    st.booleans(),
)
def test_no_program_does_more_than_be_refused(program, scripted):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = write_zip(Path(folder) / "a.pt", program, scripted=scripted)
        with pytest.raises(UserError):
            read_torch(path)
