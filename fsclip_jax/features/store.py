"""Open a feature bank on disk and check that it is whole; ``writing`` makes one.

The format is described in ``docs/data.md``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import UNSET, Meta, Struct, UnsetType
from safetensors import SafetensorError, safe_open

from fsclip_jax.clip.scale import check_scale
from fsclip_jax.data.splits import SPLITS
from fsclip_jax.durable import sha256_file
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.layout import (
    BEFORE,
    DTYPES,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    TEXT_FILE,
    WITHOUT_TEXT,
    Rows,
    partial_name,
    shard_name,
    unpack_strings,
)
from fsclip_jax.features.tensors import lengths, read_tensor
from fsclip_jax.json_files import read_json
from fsclip_jax.printable import printable_tree

__all__ = ["StoredBank", "open_bank"]

_Positive: TypeAlias = Annotated[int, Meta(ge=1)]


class _FileEntry(Struct):
    sha256: str
    bytes: int


class _ShardEntry(_FileEntry):
    n: int


class _Manifest(Struct):
    """What a manifest must hold, and of which type; ``files`` is checked on its own."""

    data: dict[str, Any]
    backbone: dict[str, Any]
    preprocessing: dict[str, Any]
    templates: list[Any]
    dtype: Literal["float16", "float32"]
    n: _Positive
    views: _Positive
    classes: _Positive
    dim: _Positive
    logit_scale: Annotated[float, Meta(gt=0)]
    splits: dict[str, Any]
    class_names: list[str]
    domain_names: list[str]
    skipped: list[Any]
    files: dict[str, Any]
    patches: _Positive | UnsetType = UNSET
    """Only there if patches are stored."""
    pre: _Positive | UnsetType = UNSET
    """Width before the last projection; only there if the features are those before it."""


def open_bank(path: Path | str, verify: bool = False) -> StoredBank:
    """Open a bank and check that it is whole.

    Opening reads the manifest and all but the features, and checks names, sizes, shapes, types and
    ranges. It does not read the features, so it is quick however large the bank is. With ``verify``
    the sha256 of every file is compared too.

    Raises:
        UserError: whatever is wrong with the folder, naming the file.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    for name, entry in manifest["files"].items():
        _check_file(path / name, entry, verify)
    shards = [(path / name, int(entry["n"])) for name, entry in _shard_entries(manifest)]
    parts = [_read_rows(file, n, manifest) for file, n in shards]
    if sum(n for _, n in shards) != manifest["n"]:
        raise _damaged(path / MANIFEST, "its number of images is not the sum over the shards")
    domains = np.concatenate([part.domains for part in parts])
    return StoredBank(
        path=path,
        manifest=manifest,
        shards=tuple(shards),
        labels=np.concatenate([part.labels for part in parts]),
        splits=np.concatenate([part.splits for part in parts]),
        domains=domains if manifest["domain_names"] else None,
        keys=tuple(key for part in parts for key in part.keys),
        class_names=tuple(manifest["class_names"]),
        domain_names=tuple(manifest["domain_names"]),
        text_features=_read_text(path / TEXT_FILE, manifest) if _has_text(manifest) else None,
        logit_scale=float(manifest["logit_scale"]),
        text_lengths=_read_lengths(path / TEXT_FILE, manifest) if _has_text(manifest) else None,
    )


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"{path} is damaged: {what}; restore the file or make the bank anew")


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        unfinished = partial_name(path).is_dir()
        hint = "; an unfinished one is beside it: run the same extraction again" * unfinished
        raise UserError(f"there is no bank at {path}{hint}")
    file = path / MANIFEST
    if not file.is_file():
        raise UserError(f"{path} is not a bank: it has no {MANIFEST}; make one with fsclip extract")
    try:
        manifest = printable_tree(read_json(file))
    except (OSError, ValueError) as error:
        raise _damaged(file, f"not readable as JSON ({error})") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise _damaged(file, 'it does not say "format": "fsclip_bank"')
    version = manifest.get("format_version")
    if version not in (FORMAT_VERSION, WITHOUT_TEXT, BEFORE):
        raise UserError(
            f"{file} has format version {version!r}; this program reads {FORMAT_VERSION} to "
            f"{BEFORE}: use the program that wrote it, or make the bank anew"
        )
    _check_schema(file, manifest)
    return manifest


def _check_schema(file: Path, manifest: dict[str, Any]) -> None:
    try:
        msgspec.convert(manifest, _Manifest)
    except (msgspec.ValidationError, OverflowError) as error:
        raise _damaged(file, str(error)) from error
    check_scale(float(manifest["logit_scale"]), str(file))
    if len(manifest["class_names"]) != manifest["classes"]:
        raise _damaged(file, "the number of class names is not the number of classes")
    _check_entries(file, manifest["files"])
    shards = [name for name, _ in _shard_entries(manifest)]
    if shards != [shard_name(i) for i in range(len(shards))] or not shards:
        raise _damaged(file, "the list of shards has gaps")
    if _has_text(manifest) != (TEXT_FILE in manifest["files"]):
        lists = "does not list" if _has_text(manifest) else "has no text and lists"
        raise _damaged(file, f"it {lists} {TEXT_FILE}")
    if ("pre" in manifest) != (manifest["format_version"] == BEFORE):
        raise _damaged(file, f"format version {BEFORE} goes with the width pre, and it alone")


def _has_text(manifest: Mapping[str, Any]) -> bool:
    return bool(manifest["format_version"] != WITHOUT_TEXT)


def _check_entries(file: Path, entries: Mapping[str, Any]) -> None:
    for name, entry in entries.items():
        try:
            msgspec.convert(entry, _FileEntry if name == TEXT_FILE else _ShardEntry)
        except msgspec.ValidationError as error:
            raise _damaged(file, f"the entry of {name}: {error}") from error


def _shard_entries(manifest: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return sorted((k, v) for k, v in manifest["files"].items() if k != TEXT_FILE)


def _check_file(path: Path, entry: Mapping[str, Any], verify: bool) -> None:
    if not path.is_file():
        raise UserError(f"{path} is missing; restore the file or make the bank anew")
    size = path.stat().st_size
    if size != entry["bytes"]:
        raise _damaged(path, f"it has {size} bytes where the manifest says {entry['bytes']}")
    if verify and sha256_file(path) != entry["sha256"]:
        raise _damaged(path, "its sha256 is not the one in the manifest")


def _read_rows(path: Path, n: int, manifest: Mapping[str, Any]) -> Rows:
    """Read all of a shard but features and patches, whose type and shape are checked only."""
    width = manifest.get("pre", manifest["dim"])
    expected = {
        "features": (DTYPES[manifest["dtype"]], [manifest["views"], n, width]),
        "labels": ("I32", [n]),
        "split": ("I8", [n]),
        "domain": ("I32", [n]),
        "key_offsets": ("I64", [n + 1]),
    }
    if "patches" in manifest:
        expected["patches"] = ("F16", [n, manifest["patches"], manifest["dim"]])
    try:
        with safe_open(path, "np") as tensors:
            for name, (dtype, shape) in expected.items():
                found = tensors.get_slice(name)
                if (found.get_dtype(), found.get_shape()) != (dtype, shape):
                    got = f"{found.get_dtype()} {found.get_shape()}"
                    raise _damaged(path, f"{name} is {got}, not {dtype} {shape}")
            read = [k for k in [*expected, "key"] if k not in ("features", "patches")]
            small = {k: tensors.get_tensor(k) for k in read}
    except (OSError, SafetensorError) as error:
        raise _damaged(path, str(error)) from error
    offsets = small["key_offsets"]
    if offsets[0] != 0 or offsets[-1] != small["key"].size or (np.diff(offsets) < 0).any():
        raise _damaged(path, "its keys cannot be told apart")
    _check_range(path, "label", small["labels"], 0, manifest["classes"])
    _check_range(path, "split", small["split"], 0, len(SPLITS))
    families = len(manifest["domain_names"])
    _check_range(path, "domain", small["domain"], 0 if families else -1, families)
    keys = unpack_strings(small["key"], offsets)
    return Rows(np.empty(0), small["labels"], small["split"], keys, small["domain"])


def _check_range(path: Path, name: str, values: np.ndarray, low: int, end: int) -> None:
    wrong = values[(values < low) | (values >= end)]
    if wrong.size:
        raise _damaged(path, f"it holds the {name} {wrong[0]}; accepted: {low} to {end - 1}")


def _check_mask(path: Path, mask: np.ndarray, shape: list[int]) -> None:
    if mask.dtype != np.bool_ or list(mask.shape) != shape or not mask.any(0).all():
        raise _damaged(
            path, f"prompt_mask is {mask.dtype} {list(mask.shape)}, or empty for a class"
        )


def _read_text(path: Path, manifest: Mapping[str, Any]) -> np.ndarray:
    try:
        with safe_open(path, "np") as tensors:
            text = tensors.get_tensor("text_features")
            if "prompt_features" in set(tensors.keys()):
                found = tensors.get_slice("prompt_features")
                shape = found.get_shape()
                if found.get_dtype() != "F32" or shape[1:] != list(text.shape) or not shape[0]:
                    raise _damaged(path, f"prompt_features is {found.get_dtype()} {shape}")
                if "prompt_mask" in set(tensors.keys()):
                    _check_mask(path, tensors.get_tensor("prompt_mask"), shape[:2])
    except (OSError, SafetensorError) as error:
        raise _damaged(path, str(error)) from error
    if text.dtype != np.float32 or text.shape != (manifest["classes"], manifest["dim"]):
        raise _damaged(path, f"text_features is {text.dtype} {list(text.shape)}")
    norms = lengths(text)
    if not (np.isfinite(norms).all() and norms.min() > 0):
        raise _damaged(path, "a text feature is not finite or is zero")
    return text / norms


def _read_lengths(path: Path, manifest: Mapping[str, Any]) -> np.ndarray | None:
    """Return the lengths of the text vectors before they were normalised, where they are kept."""
    kept = read_tensor(path, "text_lengths")
    if kept is None:
        return None
    if kept.dtype != np.float32 or kept.shape != (manifest["classes"],):
        raise _damaged(path, f"text_lengths is {kept.dtype} {list(kept.shape)}")
    if not (np.isfinite(kept).all() and kept.min() > 0):
        raise _damaged(path, "a text length is not finite or not positive")
    return kept
