"""Write a state dict as ``torch.save`` does, in the layout that ``clip.pickles`` describes."""

import io
import zipfile
from collections.abc import Mapping

import numpy as np

_BEGIN, _END = b"\x80\x02", b"."
_MARK, _TUPLE, _CALL, _REFER, _FILL, _NONE, _FALSE = b"(", b"t", b"R", b"Q", b"u", b")", b"\x89"


def torch_archive(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Return the bytes of a ``.pt`` archive that ``torch.load(..., weights_only=True)`` opens.

    The same tensors, float32 by the names of the state dict, give the same bytes.
    """
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, content: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), content)

        add("data.pkl", _program(tensors))
        add("byteorder", b"little")
        for place, array in enumerate(tensors.values()):
            add(f"data/{place}", np.ascontiguousarray(array, "<f4").tobytes())
        add("version", b"3\n")
    return file.getvalue()


def _program(tensors: Mapping[str, np.ndarray]) -> bytes:
    """The pickle that says how the tensors lie in their storages."""
    empty = _name("collections", "OrderedDict") + _NONE + _CALL
    parts = [_BEGIN, empty, _MARK]
    for place, (key, array) in enumerate(tensors.items()):
        strides = np.empty(array.shape, np.uint8).strides  # in numbers, as of one byte each
        storage = _text("storage") + _name("torch", "FloatStorage") + _text(str(place))
        storage += _text("cpu") + _number(array.size)
        parts += [_text(key), _name("torch._utils", "_rebuild_tensor_v2"), _MARK]
        parts += [_MARK, storage, _TUPLE, _REFER, _number(0)]
        parts += [_numbers(array.shape), _numbers(strides), _FALSE, empty, _TUPLE, _CALL]
    return b"".join([*parts, _FILL, _END])


def _name(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(value: str) -> bytes:
    data = value.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def _number(value: int) -> bytes:
    return b"\x8a\x08" + value.to_bytes(8, "little", signed=True)


def _numbers(values: tuple[int, ...]) -> bytes:
    return _MARK + b"".join(map(_number, values)) + _TUPLE
