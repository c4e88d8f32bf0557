"""Write ``.pt`` archives by hand, honest and hostile ones, without PyTorch."""

import io
import pickle
import zipfile

import numpy as np

KINDS = {
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "float64": "DoubleStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "uint8": "ByteStorage",
}


class Op:
    """A pickle, opcode by opcode."""

    def __init__(self):
        self.bytes = b"\x80\x02"

    def raw(self, data):
        self.bytes += data
        return self

    def name(self, module, name):
        return self.raw(b"c" + module.encode() + b"\n" + name.encode() + b"\n")

    def text(self, value):
        data = value.encode()
        return self.raw(b"X" + len(data).to_bytes(4, "little") + data)

    def number(self, value):
        data = value.to_bytes(9, "little", signed=True)
        return self.raw(b"\x8a\x09" + data)

    def numbers(self, values):
        self.raw(b"(")
        for value in values:
            self.number(value)
        return self.raw(b"t")

    def tensor(self, key, kind, count, offset, shape, strides):
        self.name("torch._utils", "_rebuild_tensor_v2").raw(b"((").text("storage")
        self.name("torch", kind).text(key).text("cpu").number(count).raw(b"tQ")
        self.number(offset).numbers(shape).numbers(strides).raw(b"\x89")
        return self.name("collections", "OrderedDict").raw(b")RtR")

    def array(self, key, array):
        strides = [step // array.itemsize for step in np.ascontiguousarray(array).strides]
        return self.tensor(
            key, KINDS[array.dtype.name], array.size, 0, array.shape, strides[: array.ndim]
        )

    def done(self):
        return self.bytes + b"."


def write_zip(path, program, storages=(), *, scripted=False, compress=False, root="archive"):
    """Write an archive around a pickle and the bytes of its storages."""
    method = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(f"{root}/data.pkl", program)
        if scripted:
            archive.writestr(f"{root}/constants.pkl", pickle.dumps((), 2))
        for key, data in dict(storages).items():
            archive.writestr(f"{root}/data/{key}", data)
    return path


def write_state_dict(path, tensors, *, scripted=False):
    """Write tensors as ``torch.save`` does, or as a tree of TorchScript modules."""
    program = Op()
    storages = {}
    for index, array in enumerate(tensors.values()):
        storages[str(index)] = np.ascontiguousarray(array).tobytes()
    if scripted:
        tree: dict = {}
        for index, (key, array) in enumerate(tensors.items()):
            *parts, last = key.split(".")
            node = tree
            for part in parts:
                node = node.setdefault(part, {})
            node[last] = (str(index), array)
        _module(program, tree)
    else:
        program.name("collections", "OrderedDict").raw(b")R(")
        for index, (key, array) in enumerate(tensors.items()):
            program.text(key).array(str(index), array)
        program.raw(b"u")
    return write_zip(path, program.done(), storages, scripted=scripted)


def _module(program, tree):
    program.name("__torch__.clip.model", "Part").raw(b")\x81}(").text("training").raw(b"\x89")
    for key, value in tree.items():
        program.text(key)
        if isinstance(value, dict):
            _module(program, value)
        else:
            program.array(*value)
    program.raw(b"ub")


def pickle_of(value):
    """Pickle by the standard library, protocol 2."""
    out = io.BytesIO()
    pickle.Pickler(out, 2).dump(value)
    return out.getvalue()
