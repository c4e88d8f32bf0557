"""Write a feature bank: shard by shard under ``DIR.partial``, then renamed when it is whole."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    BEFORE,
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    TEXT_FILE,
    WITHOUT_TEXT,
    Rows,
    pack_strings,
    partial_name,
    shard_name,
)
from fsclip_jax.features.projection import TENSORS, Projection
from fsclip_jax.features.store import open_bank
from fsclip_jax.printable import printable_tree


def write_shard(folder: Path, index: int, rows: Rows, dtype: str, skipped: Sequence[str]) -> None:
    """Write one shard, whole or not at all; ``skipped`` names its images that cannot be read."""
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


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a bank says beside its images.

    Attributes:
        text_features: one vector a class [C D]; None where the backbone has no text.
        text_lengths: of the text vectors as the tower gives them [C]; None where nobody knows.
        prompt_features: one vector a prompt and class [P C D], or None to leave them out.
        prompt_mask: true where a class has that prompt [P C]; None if all have all.
        projection: the last of the image tower, if the features are before it.
        domain_names: name of each artist family; empty where the data has none.
    """

    text_features: np.ndarray | None
    text_lengths: np.ndarray | None = None
    prompt_features: np.ndarray | None = None
    prompt_mask: np.ndarray | None = None
    projection: Projection | None = None
    class_names: Sequence[str]
    domain_names: Sequence[str]
    logit_scale: float
    data: Mapping[str, Any]
    backbone: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    templates: Sequence[str]
    extra: Mapping[str, Any]


def finish_bank(partial: Path, final: Path, about: Description, dtype: str) -> StoredBank:
    """Add text and manifest to a folder of finished shards and give it its final name."""
    sizes, files = _list_shards(partial)
    version = WITHOUT_TEXT if about.text_features is None else FORMAT_VERSION
    if about.projection is not None:
        sizes |= {"pre": sizes["dim"], "dim": about.projection.kernel.shape[1]}
        version = BEFORE
    if about.text_features is not None:
        _write_text(partial / TEXT_FILE, about.text_features, about)
        files[TEXT_FILE] = _file_entry(partial / TEXT_FILE)
    manifest = {
        "format": FORMAT,
        "format_version": version,
        "fsclip_version": __version__,
        "data": dict(about.data),
        "backbone": dict(about.backbone),
        "preprocessing": dict(about.preprocessing),
        "templates": list(about.templates),
        "dtype": dtype,
        **sizes,
        "classes": len(about.class_names),
        "logit_scale": float(about.logit_scale),
        "class_names": list(about.class_names),
        "domain_names": list(about.domain_names),
        **about.extra,
        "files": files,
    }
    write_file(partial / MANIFEST, json.dumps(printable_tree(manifest), indent=1).encode())
    publish_folder(partial, final)
    return open_bank(final)


def _write_text(path: Path, text: np.ndarray, about: Description) -> None:
    tensors = {"text_features": np.ascontiguousarray(text, np.float32)}
    if about.text_lengths is not None:
        tensors["text_lengths"] = np.ascontiguousarray(about.text_lengths, np.float32)
    if about.prompt_features is not None:
        tensors["prompt_features"] = np.ascontiguousarray(about.prompt_features, np.float32)
        if about.prompt_mask is not None:
            tensors["prompt_mask"] = np.ascontiguousarray(about.prompt_mask, np.bool_)
    if about.projection is not None:
        found = zip(TENSORS, about.projection, strict=True)
        tensors |= {name: np.ascontiguousarray(each, np.float32) for name, each in found}
    write_file(path, save(tensors))


def _list_shards(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return what the manifest says of all images together, and of the file of each shard."""
    files: dict[str, dict[str, Any]] = {}
    skipped: list[str] = []
    counts = np.zeros(len(SPLITS), np.int64)
    shape: dict[str, int] = {}
    for index in range(len(list(folder.glob("shard-*.safetensors")))):
        path = folder / shard_name(index)
        with safe_open(path, "np") as tensors:
            views, n, dim = tensors.get_slice("features").get_shape()
            shape = {"views": views, "dim": dim}
            if "patches" in set(tensors.keys()):
                shape["patches"] = tensors.get_slice("patches").get_shape()[1]
            counts += np.bincount(tensors.get_tensor("split"), minlength=len(SPLITS))
            skipped += json.loads(tensors.metadata()["skipped"])
        files[path.name] = _file_entry(path) | {"n": n}
    splits = dict(zip(SPLITS, counts.tolist(), strict=True))
    return {"n": int(counts.sum()), **shape, "splits": splits, "skipped": skipped}, files


def _file_entry(path: Path) -> dict[str, Any]:
    return {"sha256": sha256_file(path), "bytes": path.stat().st_size}


def write_bank(
    path: Path, rows: Rows, about: Description, *, shard: int = 8192, dtype: str = "float16"
) -> StoredBank:
    """Write a bank that is in memory, its images as they are and in the order given.

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
    return finish_bank(partial, path, about, dtype)


def refuse_existing(path: Path) -> None:
    """Raise a ``UserError`` if a bank cannot be made at ``path`` because something is there."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} exists already: choose another --out, or remove it first")
