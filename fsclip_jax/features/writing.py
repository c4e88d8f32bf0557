"""Write a feature bank: shard by shard under ``DIR.partial``, then renamed when it is whole."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from fsclip_jax import __version__
from fsclip_jax.data.splits import SPLITS
from fsclip_jax.durable import publish_folder, sha256_file, storage_errors, write_file
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.layout import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    TEXT_FILE,
    Rows,
    pack_strings,
    partial_name,
    shard_name,
)
from fsclip_jax.features.store import open_bank


def write_shard(folder: Path, index: int, rows: Rows, dtype: str, skipped: Sequence[str]) -> None:
    """Write one shard, whole or not at all.

    Args:
        skipped: keys of the images of this shard that could not be read.
    """
    key_bytes, key_offsets = pack_strings(rows.keys)
    tensors = {
        "features": np.ascontiguousarray(rows.features, np.dtype(dtype)),
        "labels": np.ascontiguousarray(rows.labels, np.int32),
        "split": np.ascontiguousarray(rows.splits, np.int8),
        "domain": np.ascontiguousarray(rows.domains, np.int32),
        "key": key_bytes,
        "key_offsets": key_offsets,
    }
    if rows.patches is not None:
        tensors["patches"] = np.ascontiguousarray(rows.patches, np.float16)
    write_file(folder / shard_name(index), save(tensors, {"skipped": json.dumps(list(skipped))}))


def shard_contents(path: Path) -> tuple[np.ndarray, list[str]]:
    """Return the labels of a finished shard, and the keys of the images it had to skip."""
    with safe_open(path, "np") as tensors:
        return tensors.get_tensor("labels"), json.loads(tensors.metadata()["skipped"])


def finish_bank(
    partial: Path,
    final: Path,
    *,
    text_features: np.ndarray,
    prompt_features: np.ndarray | None,
    prompt_mask: np.ndarray | None = None,
    class_names: Sequence[str],
    domain_names: Sequence[str],
    logit_scale: float,
    dtype: str,
    data: Mapping[str, Any],
    backbone: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
    templates: Sequence[str],
    extra: Mapping[str, Any],
) -> StoredBank:
    """Add text and manifest to a folder of finished shards and give it its final name.

    Args:
        text_features: one vector a class [C D].
        prompt_features: one vector a prompt and class [P C D], or None to leave them out.
        domain_names: name of each artist family; empty where the data has none.
    """
    text = {"text_features": np.ascontiguousarray(text_features, np.float32)}
    if prompt_features is not None:
        text["prompt_features"] = np.ascontiguousarray(prompt_features, np.float32)
        if prompt_mask is not None:
            text["prompt_mask"] = np.ascontiguousarray(prompt_mask, np.bool_)
    write_file(partial / TEXT_FILE, save(text))
    files: dict[str, dict[str, Any]] = {}
    skipped: list[str] = []
    split_ids: list[np.ndarray] = []
    views, patches, dim = 0, 0, text_features.shape[1]
    for index in range(len(list(partial.glob("shard-*.safetensors")))):
        path = partial / shard_name(index)
        with safe_open(path, "np") as tensors:
            views, n, dim = tensors.get_slice("features").get_shape()
            if "patches" in set(tensors.keys()):
                patches = tensors.get_slice("patches").get_shape()[1]
            split_ids.append(tensors.get_tensor("split"))
            skipped += json.loads(tensors.metadata()["skipped"])
        files[path.name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size, "n": n}
    text_path = partial / TEXT_FILE
    files[TEXT_FILE] = {"sha256": sha256_file(text_path), "bytes": text_path.stat().st_size}
    counts = np.bincount(np.concatenate(split_ids), minlength=len(SPLITS))
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "fsclip_version": __version__,
        "data": dict(data),
        "backbone": dict(backbone),
        "preprocessing": dict(preprocessing),
        "templates": list(templates),
        "dtype": dtype,
        "n": int(counts.sum()),
        "views": views,
        **({"patches": patches} if patches else {}),
        "classes": len(class_names),
        "dim": dim,
        "logit_scale": float(logit_scale),
        "splits": dict(zip(SPLITS, counts.tolist(), strict=True)),
        "class_names": list(class_names),
        "domain_names": list(domain_names),
        "skipped": skipped,
        **extra,
        "files": files,
    }
    write_file(partial / MANIFEST, json.dumps(manifest, indent=1).encode())
    publish_folder(partial, final)
    return open_bank(final)


def write_bank(
    path: Path, rows: Rows, *, shard: int = 8192, dtype: str = "float16", **description: Any
) -> StoredBank:
    """Write a bank that is in memory.

    Args:
        rows: all images. They are stored as they are, in the order given.

    Raises:
        UserError: the folder is there already, or the disk refuses.
    """
    refuse_existing(path)
    partial = partial_name(path)
    with storage_errors(path):
        partial.mkdir(parents=True, exist_ok=True)
        for old in partial.iterdir():  # what an interrupted import left
            old.unlink()
    for index, low in enumerate(range(0, max(len(rows.labels), 1), shard)):
        write_shard(partial, index, rows.part(low, low + shard), dtype, [])
    return finish_bank(partial, path, dtype=dtype, **description)


def refuse_existing(path: Path) -> None:
    """Raise a ``UserError`` if a bank cannot be made at ``path`` because something is there."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} exists already: choose another --out, or remove it first")
