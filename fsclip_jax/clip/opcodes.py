"""Pickles of PyTorch's archives and of records, read opcode by opcode, and nothing run.

A pickle is a program. The interpreter here knows lists, dicts, numbers and tensors. It imports
nothing and calls nothing: a name in the file is compared with the few that are known, and every
other name, opcode or shape of data is refused.
"""

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

_STORAGES = {
    "FloatStorage": np.dtype(np.float32),
    "HalfStorage": np.dtype(np.float16),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "DoubleStorage": np.dtype(np.float64),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")
_MAX_RANK = 8


class RefusedError(Exception):
    """The archive asks for something that is not a tensor; the message says what."""


class _Name(NamedTuple):
    """A name that a pickle would import."""

    module: str
    name: str


class Storage(NamedTuple):
    """Numbers that tensors lie in, by the name of their entry in the archive."""

    key: str
    dtype: np.dtype
    size: int


class Tensor(NamedTuple):
    """How a tensor lies in its storage, in numbers and not in bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class Module:
    """A TorchScript module, or what a checkpoint keeps beside tensors: attributes, nothing else."""

    attributes: dict[Any, Any] = field(default_factory=dict)


class _Mark:
    """Where on the stack a list of items starts."""


def interpret(
    program: bytes | io.BytesIO,
    scripted: bool,
    storages: dict[str, Storage] | None = None,
    record: str = "",
) -> Any:
    """Read a pickle, with a `Tensor` for every tensor and a `Module` for every module.

    A file stands behind the pickle afterwards. A ``scripted`` one is of a TorchScript archive,
    which may name its own modules. Every storage that it names is put into ``storages``. A class
    called ``record``, of whatever module, is read as a `Module`: its attributes.

    Raises:
        RefusedError: it asks for anything that is not known.
    """
    return _Reader(scripted, {} if storages is None else storages, record).run(program)


def kind_named(value: Any) -> str:
    """Say what a value is, for a message."""
    return (
        f"{value.module}.{value.name}"[:120] if isinstance(value, _Name) else type(value).__name__
    )


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise RefusedError("has a tensor whose sizes are no sizes")
    return value


class _Reader:
    """The interpreter: a stack, a memo, and one small method for each kind of opcode."""

    def __init__(self, scripted: bool, storages: dict[str, Storage], record: str):
        self.scripted = scripted
        self.record = record
        self.storages = storages
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes | io.BytesIO) -> Any:
        """Read opcodes up to the last and return what is left."""
        for opcode, argument, _ in pickletools.genops(program):
            name = opcode.name
            if name == "STOP":
                return self.pop()
            if name in _IGNORED:
                continue
            if name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name]())
            elif name in _LITERALS:
                self.stack.append(argument)
            elif name in _STEPS:
                _STEPS[name](self, argument)
            else:
                raise RefusedError(f"uses the pickle opcode {name}")
        raise RefusedError("has a pickle without an end")

    def pop(self) -> Any:
        """Take the last value."""
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise RefusedError("has a broken pickle")
        return self.stack.pop()

    def marked(self) -> list[Any]:
        """Take the values behind the last mark."""
        for index in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[index], _Mark):
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise RefusedError("has a broken pickle")

    def top(self, kind: type) -> Any:
        """Look at the last value, which must be of a kind."""
        value = self.pop()
        self.stack.append(value)
        if type(value) is not kind:
            raise RefusedError(f"fills {kind_named(value)}")
        return value

    def put(self, index: int | None) -> None:
        value = self.pop()
        self.stack.append(value)
        self.memo[len(self.memo) if index is None else index] = value

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise RefusedError("has a broken pickle")
        self.stack.append(self.memo[index])

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            raise RefusedError("has a broken pickle")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int, Tensor):
                raise RefusedError(f"has a dict with the key {kind_named(key)}")
            target[key] = value

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def name(self, module: str, name: str) -> None:
        known = _Name(module, name)
        inert = self.inert(known) or (self.scripted and _is_scripted(known))
        if known not in _CALLS and not (module == "torch" and name in _STORAGES) and not inert:
            raise RefusedError(f"asks for {kind_named(known)}")
        self.stack.append(known)

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise RefusedError("has a broken pickle")
        self.name(module, name)

    def persistent(self) -> None:
        match self.pop():
            # The sixth entry, of files before 1.6, is for views of storages, which none has now.
            case ("storage", _Name("torch", kind), str(key), str(), count, *more) if (
                kind in _STORAGES and more in ([], [None])
            ):
                storage = Storage(key, _STORAGES[kind], _natural(count))
                self.storages.setdefault(key, storage)
                self.stack.append(storage)
            case _:
                raise RefusedError("refers to something that is no storage")

    def reduce(self) -> None:
        args, name = self.pop(), self.pop()
        call = _CALLS.get(name) if type(name) is _Name else None
        if call is None or type(args) is not tuple:
            raise RefusedError(f"calls {kind_named(name)}")
        self.stack.append(call(args))

    def new(self) -> None:
        args, name = self.pop(), self.pop()
        if type(name) is not _Name or not (_is_scripted(name) or self.inert(name)) or args != ():
            raise RefusedError(f"makes an object of {kind_named(name)}")
        self.stack.append(Module())

    def inert(self, name: _Name) -> bool:
        """Whether a class is one that files hold whole: its attributes are all that is kept."""
        optimizer = name.module.startswith("torch.optim.") or name == ("argparse", "Namespace")
        return optimizer or (bool(self.record) and name.name == self.record)

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        self.stack.append(target)
        if type(state) is not dict or type(target) not in (Module, dict):
            raise RefusedError(f"sets the inside of {kind_named(target)}")
        if type(target) is Module:
            target.attributes.update(state)  # of an OrderedDict it is metadata, and left out


def _is_scripted(name: _Name) -> bool:
    return name.module == "__torch__" or name.module.startswith("__torch__.")


def _tensor(args: tuple[Any, ...]) -> Tensor:
    match args:
        case (Storage() as storage, offset, tuple(shape), tuple(strides), *_) if (
            len(shape) == len(strides) <= _MAX_RANK
        ):
            return Tensor(
                storage,
                _natural(offset),
                tuple(_natural(n) for n in shape),
                tuple(_natural(n) for n in strides),
            )
    raise RefusedError("describes a tensor in a way that is not known")


def _parameter(args: tuple[Any, ...]) -> Tensor:
    if not args or type(args[0]) is not Tensor:
        raise RefusedError("describes a parameter in a way that is not known")
    return args[0]


def _empty(args: tuple[Any, ...]) -> dict[Any, Any]:
    if args:
        raise RefusedError("fills an OrderedDict in a way that is not known")
    return {}


def _first(args: tuple[Any, ...]) -> Any:
    if not args:
        raise RefusedError("has a broken pickle")
    return args[0]


_CALLS: dict[_Name, Callable[[tuple[Any, ...]], Any]] = {
    _Name("collections", "OrderedDict"): _empty,
    _Name("collections", "defaultdict"): lambda _: {},
    _Name("builtins", "dict"): _empty,
    _Name("__builtin__", "dict"): _empty,
    _Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    _Name("torch._utils", "_rebuild_parameter"): _parameter,
    _Name("torch.jit._pickle", "restore_type_tag"): _first,
    **{_Name("torch.jit._pickle", name): _first for name in _LISTS},
}
_IGNORED = frozenset({"PROTO", "FRAME"})
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": _Mark,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_LITERALS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
    | {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
)
_STEPS: dict[str, Callable[[_Reader, Any], None]] = {
    "POP": lambda reader, _: reader.pop() and None,
    "BINPUT": _Reader.put,
    "LONG_BINPUT": _Reader.put,
    "MEMOIZE": lambda reader, _: reader.put(None),
    "BINGET": _Reader.get,
    "LONG_BINGET": _Reader.get,
    "TUPLE": lambda reader, _: reader.stack.append(tuple(reader.marked())),
    "TUPLE1": lambda reader, _: reader.tuple_of(1),
    "TUPLE2": lambda reader, _: reader.tuple_of(2),
    "TUPLE3": lambda reader, _: reader.tuple_of(3),
    "SETITEM": lambda reader, _: reader.set_items([reader.pop(), reader.pop()][::-1]),
    "SETITEMS": lambda reader, _: reader.set_items(reader.marked()),
    "APPEND": lambda reader, _: reader.append([reader.pop()]),
    "APPENDS": lambda reader, _: reader.append(reader.marked()),
    "GLOBAL": lambda reader, both: reader.name(*both.split(" ", 1)),
    "STACK_GLOBAL": lambda reader, _: reader.stack_name(),
    "BINPERSID": lambda reader, _: reader.persistent(),
    "REDUCE": lambda reader, _: reader.reduce(),
    "NEWOBJ": lambda reader, _: reader.new(),
    "BUILD": lambda reader, _: reader.build(),
}
