import errno
import tempfile
from collections import namedtuple
from dataclasses import dataclass

import jax
import numpy as np
import pytest

from fsclip_jax.adapters.tip_adapter import TipAdapter
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.kept_programs import compile_kept


def traced(compiled):
    return sorted(file.name for file in compiled.glob("traced-*"))


def double(tree, x):
    return {"out": 2 * tree["a"] + x, "many": [x, x[0]]}


def refuse(*_):
    raise AssertionError("this was traced before")


ARGS = {"a": np.float32(3)}, np.arange(4, dtype=np.float32)


def test_a_program_is_traced_once_and_gives_the_same_in_the_next_run(compiled):
    first, _ = Engine(traced=True).run(("double", 2), double, *ARGS)
    again, _ = Engine(traced=True).run(("double", 2), refuse, *ARGS)
    assert again["out"].tolist() == first["out"].tolist() == [6, 7, 8, 9]
    assert again["many"][1].tolist() == 0
    assert len(traced(compiled)) == 1


@pytest.mark.parametrize(
    ("name", "args"),
    [
        (("double", 3), ARGS),
        (("double", 2), (ARGS[0], np.arange(5, dtype=np.float32))),
        (("double", 2), (ARGS[0], np.arange(4, dtype=np.int32))),
        (("double", 2), ({"b": ARGS[0]["a"]}, ARGS[1])),
    ],
)
@pytest.mark.usefixtures("compiled")
def test_another_name_shape_type_or_tree_is_traced(name, args):
    compile_kept(("double", 2), double, *ARGS)
    with pytest.raises(AssertionError, match="traced before"):
        compile_kept(name, refuse, *args)


@pytest.mark.usefixtures("compiled")
def test_another_precision_is_traced():
    compile_kept("double", double, *ARGS)
    with jax.default_matmul_precision("bfloat16"), pytest.raises(AssertionError):
        compile_kept("double", refuse, *ARGS)


@pytest.mark.parametrize(
    "spoil", [lambda x: x[:-9], lambda x: x[:0], lambda x: x[:50] + b"?" + x[51:]]
)
def test_a_damaged_file_is_made_anew(compiled, spoil):
    compile_kept("double", double, *ARGS)
    (file,) = compiled.glob("traced-*")
    file.write_bytes(spoil(file.read_bytes()))
    assert compile_kept("double", double, *ARGS)(*ARGS)["out"].tolist() == [6, 7, 8, 9]
    assert compile_kept("double", refuse, *ARGS)(*ARGS)["out"].tolist() == [6, 7, 8, 9]


def test_what_cannot_be_kept_is_compiled_all_the_same(compiled):
    pair = namedtuple("pair", "a b")
    found = compile_kept("pair", lambda x: pair(x, x + 1), ARGS[1])(ARGS[1])
    assert found.b.tolist() == [1, 2, 3, 4]
    compile_kept(("by its address", object()), double, *ARGS)
    jax.config.update("jax_compilation_cache_dir", None)
    compile_kept("double", double, *ARGS)
    assert traced(compiled) == []
    assert not any(file.name.startswith("tmp") for file in compiled.iterdir())


def test_a_full_disk_costs_a_trace_and_leaves_no_part(compiled, monkeypatch):
    made = tempfile.NamedTemporaryFile

    def full(**options):
        file = made(**options)

        def write(_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(file, "write", write)
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    program = compile_kept(("double", 2), double, *ARGS)
    assert program(*ARGS)["out"].tolist() == [6, 7, 8, 9]
    assert [
        file.name for file in compiled.iterdir() if file.name.startswith(("tmp", "traced"))
    ] == []


@dataclass(frozen=True)
class Own:
    factor: int = 2


def test_what_somebody_else_wrote_is_not_kept(compiled):
    # Their text may change between two runs, and nobody sums it up.
    compile_kept(("fit", Own()), double, *ARGS)
    assert traced(compiled) == []
    compile_kept(("fit", TipAdapter()), double, *ARGS)
    assert len(traced(compiled)) == 1
    compile_kept(("fit", TipAdapter(), (1, Own())), double, *ARGS)
    assert len(traced(compiled)) == 1
