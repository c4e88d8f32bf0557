"""Read and write the files of a model folder, none of which is ever run."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fsclip_jax import json_files
from fsclip_jax.clip.pickles import is_torch, read_torch
from fsclip_jax.durable import sha256_file, write_file
from fsclip_jax.errors import UserError, first_line, some

TORCH = (".pt", ".pth", ".bin", ".ckpt")
"""Endings of PyTorch's archives; those with another, such as ``.pth.tar-50``, are found out."""
WEIGHTS = (".safetensors", ".msgpack", *TORCH)
"""Endings of the weights files that are read."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a config file.

    Raises:
        UserError: it holds no JSON object.
    """
    try:
        values = json_files.read_json(path)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} is no JSON ({first_line(error)}); restore or download the file"
        ) from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds a {type(values).__name__}; wanted is a JSON object")
    return values


def shard_paths(path: Path) -> tuple[Path, ...]:
    """List the files that hold the weights: the file itself, or the shards of an index, by name.

    Raises:
        UserError: the index is broken, or a shard is missing.
    """
    if not path.name.endswith(".index.json"):
        return (path,)
    try:
        names = sorted(set(read_json(path)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is no index of shards; download it again") from error
    # An index may name files of its own folder only.
    there = {item.name for item in path.parent.iterdir() if item.is_file()}
    if missing := [str(name)[:80] for name in names if name not in there]:
        raise UserError(
            f"{path} names shards that are not beside it: {some(missing)}; download them"
        )
    return tuple(path.parent / name for name in names)


def is_weights(path: Path) -> bool:
    """Whether a file is one of weights, by its ending or its content."""
    return path.is_file() and (path.suffix in WEIGHTS or is_torch(path))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read every array of a weights file, or of all shards that an ``.index.json`` names.

    A nested file's keys are joined by dots.

    Raises:
        UserError: the file is broken or of a kind that is not accepted.
    """
    tensors: dict[str, np.ndarray] = {}
    for shard in shard_paths(path):
        try:
            match shard.suffix:
                case ".safetensors":
                    tensors |= _read_safetensors(shard)
                case ".msgpack":
                    tensors |= _read_msgpack(shard)
                case ending if ending in TORCH or is_torch(shard):
                    tensors |= read_torch(shard)
                case other:
                    raise UserError(f"{shard} ends in {other!r}; accepted are {', '.join(WEIGHTS)}")
        except (UserError, OSError, MemoryError):
            raise
        except Exception as error:  # safetensors, msgpack and numpy raise many kinds
            raise UserError(
                f"{shard} is truncated or broken ({first_line(error)}); download it again"
            ) from error
    return tensors


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118


def _read_msgpack(path: Path) -> dict[str, np.ndarray]:
    from flax.serialization import msgpack_restore

    flat: dict[str, np.ndarray] = {}

    def collect(tree: Mapping[str, Any], prefix: str) -> None:
        for key, value in tree.items():
            if isinstance(value, Mapping):
                collect(value, f"{prefix}{key}.")
            else:
                flat[prefix + key] = np.asarray(value)

    collect(msgpack_restore(path.read_bytes()), "")
    return flat


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], dtype: str) -> None:
    """Write arrays to one safetensors file in one dtype, but for scalars; whole or not at all."""
    from safetensors.numpy import save

    # The temperature stays float32: rounding its logarithm would move every logit.
    cast = {
        key: np.asarray(array, dtype if array.ndim else "float32", order="C")
        for key, array in tensors.items()
    }
    # transformers asks for the framework that wrote the file; "pt" names the layout.
    write_file(path, save(cast, metadata={"format": "pt"}))


def sha256_of(paths: Sequence[Path]) -> str:
    """Hash a file; of several files, hash the list of their hashes."""
    sums = [sha256_file(path) for path in paths]
    return sums[0] if len(sums) == 1 else hashlib.sha256("\n".join(sums).encode()).hexdigest()
