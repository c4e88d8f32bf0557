"""Programs kept beside JAX's compiled ones, so that the next run need not trace them anew.

What is kept is StableHLO as ``jax.export`` writes it: it is compiled, and never run as Python.
"""

import contextlib
import dataclasses
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Hashable
from importlib import resources
from pathlib import Path
from typing import Any

import jax
import jax.export

from fsclip_jax import __version__

_SUM = 32  # bytes of the sum before the program


def compile_kept(name: Hashable, function: Callable[..., Any], *args: Any) -> Callable[..., Any]:
    """Compile a pure function for arguments of these shapes; trace it only if no run has before.

    Kept are functions of arrays in plain containers, where JAX keeps what it compiles; any other
    is traced and compiled as ever.

    Args:
        name: what the function is, all that it closes over included: numbers, words, and frozen
            dataclasses and functions of this package. With anything else in it the function may be
            somebody's own, whose text nobody sums up, and is not kept.
    """
    leaves, tree = jax.tree.flatten(args)
    file = _file(_told(name), leaves, tree)
    if file is None:
        return jax.jit(function).lower(*args).compile()
    exported = _read(file)
    if exported is None:
        try:
            flat = jax.jit(lambda *leaves: function(*jax.tree.unflatten(tree, leaves)))
            exported = jax.export.export(flat)(*leaves)
            _write(file, bytes(exported.serialize()))
        except (ValueError, NotImplementedError):  # made of what cannot be exported
            return jax.jit(function).lower(*args).compile()
    compiled = jax.jit(exported.call).lower(*leaves).compile()
    return lambda *args: compiled(*jax.tree.leaves(args))


def _file(told: str | None, leaves: list[Any], tree: Any) -> Path | None:
    """Where a program is kept; None if nothing is, or if its name does not tell it apart."""
    values = jax.config.values
    settings = {key: value for key, value in values.items() if "cache" not in key}
    on, folder = values["jax_enable_compilation_cache"], values["jax_compilation_cache_dir"]
    if not (on and folder) or told is None or " at 0x" in str(tree):
        return None
    if not Path(folder).is_dir():  # a bucket, say, which JAX knows to write to
        return None
    shapes = [jax.typeof(leaf).str_short() + f"{jax.typeof(leaf).weak_type}" for leaf in leaves]
    about = [told, str(tree), shapes, _code(), jax.default_backend(), jax.device_count(), settings]
    return Path(folder) / f"traced-{hashlib.sha256(repr(about).encode()).hexdigest()}"


def _told(name: Any) -> str | None:
    """Say all that a name means; None if the package's own text and these words do not."""
    if name is None or isinstance(name, str | int | float | bytes):
        return repr(name)
    if isinstance(name, tuple | list | dict):
        parts = [_told(part) for part in (name.items() if isinstance(name, dict) else name)]
    elif not _is_ours(name):
        return None
    elif dataclasses.is_dataclass(name):
        parts = [type(name).__qualname__]
        parts += [_told(getattr(name, each.name)) for each in dataclasses.fields(name)]
    else:
        parts = [f"{name.__module__}.{name.__qualname__}"]
    known = [part for part in parts if part is not None]
    return f"({', '.join(known)})" if len(known) == len(parts) else None


def _is_ours(name: Any) -> bool:
    """Whether it is a dataclass of this package, or a function or class at the top of a module."""
    what = type(name) if dataclasses.is_dataclass(name) and not isinstance(name, type) else name
    package = str(getattr(what, "__module__", "")).partition(".")[0]
    return package == __package__ and "<" not in getattr(what, "__qualname__", "<")


@functools.cache
def _code() -> str:
    """Sum up what a trace depends on besides: the versions, and the package's own text."""
    digest = hashlib.sha256(f"{__version__} {jax.__version__}".encode())
    root = str(resources.files("fsclip_jax"))
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(name for name in names if name.endswith(".py")):
            file = os.path.join(folder, name)  # to make paths of them takes longer than to read
            digest.update(file.removeprefix(root).encode())
            with open(file, "rb") as stream:
                digest.update(stream.read())
    return digest.hexdigest()


def _read(file: Path) -> jax.export.Exported | None:
    try:
        content = file.read_bytes()
        whole = hashlib.sha256(content[_SUM:]).digest() == content[:_SUM]
        return jax.export.deserialize(bytearray(content[_SUM:])) if whole else None
    except Exception:  # whatever is wrong with it, it is made anew
        return None


def _write(file: Path, content: bytes) -> None:
    """Not by ``durable``: several processes may write the same, and a loss costs a trace alone."""
    with contextlib.suppress(OSError):  # a full disk costs time and nothing else
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as stream:
            temporary = Path(stream.name)
            try:
                stream.write(hashlib.sha256(content).digest() + content)
                stream.flush()
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        temporary.replace(file)
