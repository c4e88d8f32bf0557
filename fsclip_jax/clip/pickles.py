"""Read PyTorch's ``.pt`` archives without PyTorch, and without running anything they say.

``torch.save`` and TorchScript both write a zip that holds the storages as raw bytes and, in
``data.pkl``, a pickle that says how tensors lie in them. A pickle is a program; its opcodes are
read here one by one by an interpreter that knows lists, dicts, numbers and tensors. It imports
nothing and calls nothing: a name in the file is compared with the few that are known, and every
other name, opcode or shape of data is refused.
"""

import math
import pickletools
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from fsclip_jax.errors import UserError

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
_MAX_PICKLE = 64 * 2**20
_MAX_RANK = 8
_MAX_MODULES = 100_000
_MAX_DEPTH = 64


@dataclass(frozen=True)
class TorchFile:
    """What a ``.pt`` archive holds."""

    tensors: dict[str, np.ndarray] = field(repr=False)
    """Tensors by the names of the state dict."""
    scripted: bool
    """It is a TorchScript archive, as OpenAI's releases are, not a saved state dict."""


class _RefusedError(Exception):
    """The archive asks for something that is not a tensor; the message says what."""


class _Name(NamedTuple):
    """A name that a pickle would import."""

    module: str
    name: str


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class _Module:
    """A TorchScript module: its attributes and nothing else."""

    attributes: dict[Any, Any] = field(default_factory=dict)


class _Mark:
    """Where on the stack a list of items starts."""


def read_torch(path: Path) -> TorchFile:
    """Read the tensors of a ``.pt``, ``.pth`` or ``.bin`` file.

    Args:
        path: a zip as PyTorch has written it since version 1.6.

    Returns:
        Its tensors; of a training checkpoint those under ``state_dict``.

    Raises:
        UserError: the file is broken, is of an older kind, or asks for anything but tensors.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is no zip archive: cut short, no weights file, or a bare pickle of PyTorch "
            "before 1.6, which is not opened; download it again, or convert it to safetensors"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path.stat().st_size)
    except _RefusedError as error:
        raise UserError(f"{path} is refused: it {error}; wanted is a file of tensors") from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # zipfile and pickletools raise many kinds on a broken file
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise UserError(f"{path} is truncated or broken ({reason}); download it again") from error


def _read_archive(archive: zipfile.ZipFile, length: int) -> TorchFile:
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise _RefusedError("has two entries of one name")
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise _RefusedError("has no data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    # Storages are never compressed in an honest file, so they are no larger than the whole.
    sizes = (entry.file_size for name, entry in entries.items() if name.startswith(f"{root}data/"))
    if sum(sizes) > length:
        raise _RefusedError("holds more bytes than it is long")
    scripted = f"{root}constants.pkl" in entries
    order = f"{root}byteorder"
    if order in entries and _bytes(archive, entries[order], 16) != b"little":
        raise _RefusedError("was written by a big-endian machine")
    program = _bytes(archive, entries[pickles[0]], _MAX_PICKLE)
    held = _Reader(scripted).run(program)
    storages: dict[str, np.ndarray] = {}

    def load(tensor: _Tensor) -> np.ndarray:
        key, dtype, size = tensor.storage
        if key not in storages:
            entry = entries.get(f"{root}data/{key}")
            if entry is None:
                raise _RefusedError(f"names a storage {key[:40]!r} that is not in it")
            if entry.file_size < size * dtype.itemsize:
                raise _RefusedError(f"has a storage {key[:40]!r} that is too short")
            storages[key] = np.frombuffer(_bytes(archive, entry, length), np.uint8)
        return _view(storages[key][: size * dtype.itemsize].view(dtype), tensor)

    named = _walk(held) if isinstance(held, _Module) else _state_dict(held)
    tensors = {key: load(tensor) for key, tensor in named}
    if not tensors:
        raise _RefusedError("holds no tensors")
    return TorchFile(tensors, scripted)


def _bytes(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise _RefusedError("is compressed or encrypted, which PyTorch's own files never are")
    if entry.file_size > limit:
        raise _RefusedError(f"has an entry of {entry.file_size} bytes where at most {limit} belong")
    return archive.read(entry)


def _view(storage: np.ndarray, tensor: _Tensor) -> np.ndarray:
    count = math.prod(tensor.shape)
    if count == 0:
        return np.zeros(tensor.shape, storage.dtype)
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    # An expanded tensor (stride 0) could ask for any amount of memory out of one number.
    if tensor.offset + reach >= len(storage) or count > len(storage):
        raise _RefusedError("has a tensor that reaches beyond its storage")
    steps = [step * storage.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(
        storage[tensor.offset :], tensor.shape, steps, writeable=False
    )


def _state_dict(held: Any) -> Iterator[tuple[str, _Tensor]]:
    if isinstance(held, dict) and isinstance(held.get("state_dict"), dict):
        held = held["state_dict"]
    if not isinstance(held, dict):
        raise _RefusedError("holds no dict of tensors")
    for key, value in held.items():
        if not isinstance(key, str) or not isinstance(value, _Tensor):
            raise _RefusedError(f"holds {_kind(value)} where a named tensor belongs")
        # What a model that was trained on several devices puts before every name.
        yield key.removeprefix("module."), value


def _walk(root: _Module) -> Iterator[tuple[str, _Tensor]]:
    """Name the tensors of a tree of modules as a state dict does."""
    todo: list[tuple[str, _Module, int]] = [("", root, 0)]
    visits = 0
    while todo:
        prefix, module, depth = todo.pop()
        visits += 1
        # A module may be shared, and so may those that share it: a small file, a huge tree.
        if visits > _MAX_MODULES or depth > _MAX_DEPTH:
            raise _RefusedError("has modules in modules without end")
        for key, value in module.attributes.items():
            if isinstance(value, _Tensor):
                yield f"{prefix}{key}", value
            elif isinstance(value, _Module):
                todo.append((f"{prefix}{key}.", value, depth + 1))


def _kind(value: Any) -> str:
    return (
        f"{value.module}.{value.name}"[:120] if isinstance(value, _Name) else type(value).__name__
    )


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**48:
        raise _RefusedError("has a tensor whose sizes are no sizes")
    return value


class _Reader:
    """The interpreter: a stack, a memo, and one small method for each kind of opcode."""

    def __init__(self, scripted: bool):
        self.scripted = scripted
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
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
                raise _RefusedError(f"uses the pickle opcode {name}")
        raise _RefusedError("has a pickle without an end")

    def pop(self) -> Any:
        """Take the last value."""
        if not self.stack or isinstance(self.stack[-1], _Mark):
            raise _RefusedError("has a broken pickle")
        return self.stack.pop()

    def marked(self) -> list[Any]:
        """Take the values behind the last mark."""
        for index in range(len(self.stack) - 1, -1, -1):
            if isinstance(self.stack[index], _Mark):
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise _RefusedError("has a broken pickle")

    def top(self, kind: type) -> Any:
        """Look at the last value, which must be of a kind."""
        value = self.pop()
        self.stack.append(value)
        if type(value) is not kind:
            raise _RefusedError(f"fills {_kind(value)}")
        return value

    def put(self, index: int | None) -> None:
        value = self.pop()
        self.stack.append(value)
        self.memo[len(self.memo) if index is None else index] = value

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise _RefusedError("has a broken pickle")
        self.stack.append(self.memo[index])

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.stack.append(tuple(reversed(items)))

    def set_items(self, items: list[Any]) -> None:
        target = self.top(dict)
        if len(items) % 2:
            raise _RefusedError("has a broken pickle")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise _RefusedError(f"has a dict with the key {_kind(key)}")
            target[key] = value

    def set_item(self) -> None:
        value, key = self.pop(), self.pop()
        self.set_items([key, value])

    def append(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def append_one(self) -> None:
        value = self.pop()
        self.append([value])

    def name(self, module: str, name: str) -> None:
        known = _Name(module, name)
        inert = self.scripted and (module == "__torch__" or module.startswith("__torch__."))
        if known not in _CALLS and not (module == "torch" and name in _STORAGES) and not inert:
            raise _RefusedError(f"asks for {_kind(known)}")
        self.stack.append(known)

    def stack_name(self) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise _RefusedError("has a broken pickle")
        self.name(module, name)

    def persistent(self) -> None:
        match self.pop():
            case ("storage", _Name("torch", kind), str(key), str(), count) if kind in _STORAGES:
                self.stack.append(_Storage(key, _STORAGES[kind], _natural(count)))
            case _:
                raise _RefusedError("refers to something that is no storage")

    def reduce(self) -> None:
        args, name = self.pop(), self.pop()
        call = _CALLS.get(name) if type(name) is _Name else None
        if call is None or type(args) is not tuple:
            raise _RefusedError(f"calls {_kind(name)}")
        self.stack.append(call(args))

    def new(self) -> None:
        args, name = self.pop(), self.pop()
        if type(name) is not _Name or not name.module.startswith("__torch__") or args != ():
            raise _RefusedError(f"makes an object of {_kind(name)}")
        self.stack.append(_Module())

    def build(self) -> None:
        state, target = self.pop(), self.pop()
        self.stack.append(target)
        if type(state) is not dict or type(target) not in (_Module, dict):
            raise _RefusedError(f"sets the inside of {_kind(target)}")
        if type(target) is _Module:
            target.attributes.update(state)  # of an OrderedDict it is metadata, and left out


def _tensor(args: tuple[Any, ...]) -> _Tensor:
    match args:
        case (_Storage() as storage, offset, tuple(shape), tuple(strides), *_) if (
            len(shape) == len(strides) <= _MAX_RANK
        ):
            return _Tensor(
                storage,
                _natural(offset),
                tuple(_natural(n) for n in shape),
                tuple(_natural(n) for n in strides),
            )
    raise _RefusedError("describes a tensor in a way that is not known")


def _parameter(args: tuple[Any, ...]) -> _Tensor:
    if not args or type(args[0]) is not _Tensor:
        raise _RefusedError("describes a parameter in a way that is not known")
    return args[0]


def _empty(args: tuple[Any, ...]) -> dict[Any, Any]:
    if args:
        raise _RefusedError("fills an OrderedDict in a way that is not known")
    return {}


def _first(args: tuple[Any, ...]) -> Any:
    if not args:
        raise _RefusedError("has a broken pickle")
    return args[0]


_CALLS: dict[_Name, Callable[[tuple[Any, ...]], Any]] = {
    _Name("collections", "OrderedDict"): _empty,
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
    "SETITEM": lambda reader, _: reader.set_item(),
    "SETITEMS": lambda reader, _: reader.set_items(reader.marked()),
    "APPEND": lambda reader, _: reader.append_one(),
    "APPENDS": lambda reader, _: reader.append(reader.marked()),
    "GLOBAL": lambda reader, both: reader.name(*both.split(" ", 1)),
    "STACK_GLOBAL": lambda reader, _: reader.stack_name(),
    "BINPERSID": lambda reader, _: reader.persistent(),
    "REDUCE": lambda reader, _: reader.reduce(),
    "NEWOBJ": lambda reader, _: reader.new(),
    "BUILD": lambda reader, _: reader.build(),
}
