"""Read PyTorch's ``.pt`` archives without PyTorch, and without running anything they say.

``torch.save`` and TorchScript both write a zip that holds the storages as raw bytes and, in
``data.pkl``, a pickle that says how tensors lie in them. Before version 1.6 the same pickle came
first and the storages behind it. The pickle is read by ``opcodes``, which knows tensors alone; what
it says of them is held against the bytes that are there.
"""

import io
import math
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fsclip_jax.clip.opcodes import Module, RefusedError, Storage, Tensor, interpret, kind_named
from fsclip_jax.errors import UserError, first_line

_MAX_PICKLE = 64 * 2**20
_MAX_MODULES = 100_000
_MAX_DEPTH = 64
_MAX_WRAPPINGS = 4
_MAX_SHARED = 8
"""Times that the storages may be as long when every tensor is written out: some are shared."""
_MAX_LISTS = 2**28
"""Bytes of the lists beside them, as arrays, in which every word is as long as the longest."""
_NUMBERS = (int, float, str, type(None))
_MODEL = ("state_dict", "model_state_dict", "model", "module")
"""Where training loops keep the weights of the model, beside what else they keep."""
_LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
"""What a file of PyTorch before 1.6 begins with: its magic number, pickled."""
_HEAD = 512
"""Bytes in which the zip of a newer one has named its pickle, the first entry."""


def read_torch(path: Path, lists: bool = False) -> dict[str, np.ndarray]:
    """Read the tensors of a ``.pt``, ``.pth`` or ``.bin`` file.

    Of a training checkpoint they are those of the model, such as under ``state_dict``. With
    ``lists``, numbers and lists of words or numbers that lie beside them are read too.

    Raises:
        UserError: the file is broken, or asks for anything but tensors.
    """
    zipped = zipfile.is_zipfile(path)
    if not zipped and not _head(path).startswith(_LEGACY):
        raise UserError(
            f"{path} is no zip archive, and no file of PyTorch before 1.6: cut short, no weights "
            "file, or a bare pickle; download it again, or convert it to safetensors"
        )
    try:
        if not zipped:
            return _read_legacy(path.read_bytes(), lists)
        with zipfile.ZipFile(path) as archive:
            return _read_archive(archive, path.stat().st_size, lists)
    except RefusedError as error:
        raise UserError(
            f"{path} is refused: it {error}; wanted is a file of tensors, as "
            "torch.save(model.state_dict(), FILE) writes it"
        ) from error
    except MemoryError:
        raise
    # zipfile and pickletools raise many kinds on a broken file, OSError for a negative place.
    except Exception as error:
        reason = first_line(error)[:200]
        raise UserError(f"{path} is truncated or broken ({reason}); download it again") from error


def _read_archive(archive: zipfile.ZipFile, length: int, lists: bool) -> dict[str, np.ndarray]:
    entries = {entry.filename: entry for entry in archive.infolist()}
    if len(entries) != len(archive.infolist()):
        raise RefusedError("has two entries of one name")
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise RefusedError("has no data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    # Storages are never compressed in an honest file, so they are no larger than the whole.
    sizes = (entry.file_size for name, entry in entries.items() if name.startswith(f"{root}data/"))
    if sum(sizes) > length:
        raise RefusedError("holds more bytes than it is long")
    order = f"{root}byteorder"
    if order in entries and _bytes(archive, entries[order], 16) != b"little":
        raise RefusedError("was written by a big-endian machine")
    program = _bytes(archive, entries[pickles[0]], _MAX_PICKLE)
    held = interpret(program, scripted=f"{root}constants.pkl" in entries)
    storages: dict[str, np.ndarray] = {}

    def read(storage: Storage) -> np.ndarray:
        key = storage.key
        if key not in storages:
            entry = entries.get(f"{root}data/{key}")
            if entry is None:
                raise RefusedError(f"names a storage {key[:40]!r} that is not in it")
            if entry.file_size < storage.size * storage.dtype.itemsize:
                raise RefusedError(f"has a storage {key[:40]!r} that is too short")
            storages[key] = np.frombuffer(_bytes(archive, entry, length), np.uint8)
        return storages[key]

    rest, beside = _lists_beside(held, lists)
    return _tensors(rest, read) | beside


def _lists_beside(held: Any, lists: bool) -> tuple[Any, dict[str, np.ndarray]]:
    """Part what a file holds from the numbers and lists in it, if these are asked for."""
    if not lists or not isinstance(held, dict):
        return held, {}
    beside = {name: value for name, value in held.items() if _is_list(value)}
    if sum(map(_array_bytes, beside.values())) > _MAX_LISTS:
        raise RefusedError(f"has lists that take more than {_MAX_LISTS} bytes as arrays")
    rest = {name: value for name, value in held.items() if name not in beside}
    return rest, {str(name): np.array(value) for name, value in beside.items()}


def _is_list(value: Any) -> bool:
    """A number, or words or numbers of one type."""
    if isinstance(value, list | tuple):
        kinds = set(map(type, value))
        return len(kinds) == 1 and kinds <= {str, int, float}
    return type(value) in (int, float)


def _array_bytes(value: Any) -> int:
    if not isinstance(value, list | tuple):
        return 8
    return len(value) * (4 * max(map(len, value)) if isinstance(value[0], str) else 8)


def is_torch(path: Path) -> bool:
    """Whether a file begins as PyTorch's do, whatever its ending."""
    head = _head(path)
    return head.startswith(_LEGACY) or (head.startswith(b"PK") and b"/data.pkl" in head)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _read_legacy(data: bytes, lists: bool) -> dict[str, np.ndarray]:
    """Read a file of PyTorch before 1.6: five pickles, then each storage behind its length."""
    file = io.BytesIO(data)
    named: dict[str, Storage] = {}
    _, version, machine, held, keys = (interpret(file, False, named) for _ in range(5))
    if version != 1001 or not isinstance(machine, dict) or not machine.get("little_endian"):
        raise RefusedError("is of an unknown version or a big-endian machine")
    if not isinstance(keys, list) or not all(type(key) is str for key in keys):
        raise RefusedError("has no list of storages")
    held, beside = _lists_beside(held, lists)
    wanted = {tensor.storage.key for _, tensor in _state_dict(held)}
    storages: dict[str, np.ndarray] = {}
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        # A storage that no tensor is in says nothing of its type, so what follows is not found.
        if key not in named or count != named[key].size:
            raise RefusedError(f"has a storage {key[:40]!r} that no tensor is in")
        length = count * named[key].dtype.itemsize
        if len(data) - file.tell() < length:
            raise RefusedError(f"has a storage {key[:40]!r} that is too short")
        if key in wanted:  # the others are the optimizer's
            storages[key] = np.frombuffer(data, np.uint8, length, file.tell())
        file.seek(length, io.SEEK_CUR)
    if missing := sorted(wanted - set(storages)):
        raise RefusedError(f"names a storage {missing[0][:40]!r} that is not in it")
    return _tensors(held, lambda storage: storages[storage.key]) | beside


def _tensors(held: Any, read: Callable[[Storage], np.ndarray]) -> dict[str, np.ndarray]:
    """Lay the named tensors over the bytes of their storages."""
    tensors, lengths = {}, {}
    for key, tensor in _walk(held) if isinstance(held, Module) else _state_dict(held):
        name, dtype, size = tensor.storage
        raw = read(tensor.storage)[: size * dtype.itemsize]
        lengths[name] = len(raw)
        tensors[key] = _view(raw.view(dtype), tensor)
    if not tensors:
        raise RefusedError("holds no tensors")
    if sum(tensor.nbytes for tensor in tensors.values()) > _MAX_SHARED * sum(lengths.values()):
        raise RefusedError(f"has tensors of more than {_MAX_SHARED} times the bytes that it holds")
    return tensors


def _bytes(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise RefusedError("is compressed or encrypted, which PyTorch's own files never are")
    if entry.file_size > limit:
        raise RefusedError(f"has an entry of {entry.file_size} bytes where at most {limit} belong")
    return archive.read(entry)


def _view(storage: np.ndarray, tensor: Tensor) -> np.ndarray:
    count = math.prod(tensor.shape)
    if count == 0:
        return np.zeros(tensor.shape, storage.dtype)
    reach = sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    # An expanded tensor (stride 0) could ask for any amount of memory out of one number.
    if tensor.offset + reach >= len(storage) or count > len(storage):
        raise RefusedError("has a tensor that reaches beyond its storage")
    steps = [step * storage.itemsize for step in tensor.strides]
    return np.lib.stride_tricks.as_strided(
        storage[tensor.offset :], tensor.shape, steps, writeable=False
    )


def _state_dict(held: Any) -> Iterator[tuple[str, Tensor]]:
    for _ in range(_MAX_WRAPPINGS):
        held = _inner(held)
    if not isinstance(held, dict):
        raise RefusedError("holds no dict of tensors")
    for key, value in held.items():
        if isinstance(value, _NUMBERS):  # an epoch, say
            continue
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise RefusedError(f"holds {kind_named(value)} where a named tensor belongs")
        yield key, value


def _inner(held: Any) -> Any:
    """Step into the dict in which a checkpoint keeps the model, by its name or as the only one."""
    if not isinstance(held, dict):
        return held
    inside = {key: value for key, value in held.items() if isinstance(value, dict) and value}
    if name := next((name for name in _MODEL if name in inside), None):
        return inside[name]
    if any(isinstance(value, Tensor) and len(value.shape) > 1 for value in held.values()):
        return held  # and not the one of a loss beside it
    inside = {
        key: value
        for key, value in inside.items()
        if all(isinstance(tensor, Tensor) for tensor in value.values())
    }
    if len(inside) > 1:
        names = ", ".join(map(repr, inside))[:200]
        raise RefusedError(f"holds several dicts of tensors, {names}, and does not say which")
    return next(iter(inside.values()), held)


def _walk(root: Module) -> Iterator[tuple[str, Tensor]]:
    """Name the tensors of a tree of modules as a state dict does."""
    todo: list[tuple[str, Module, int]] = [("", root, 0)]
    visits = 0
    while todo:
        prefix, module, depth = todo.pop()
        visits += 1
        # A module may be shared, and so may those that share it: a small file, a huge tree.
        if visits > _MAX_MODULES or depth > _MAX_DEPTH:
            raise RefusedError("has modules in modules without end")
        for key, value in module.attributes.items():
            if isinstance(value, Tensor):
                yield f"{prefix}{key}", value
            elif isinstance(value, Module):
                todo.append((f"{prefix}{key}.", value, depth + 1))
