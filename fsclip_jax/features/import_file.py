"""The arrays of a ``.npz`` or ``.pt`` of features, whatever their writer called them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fsclip_jax.clip.pickles import read_torch
from fsclip_jax.errors import UserError, suggestion
from fsclip_jax.features.npz import read_npz
from fsclip_jax.printable import printable

REQUIRED = ("features", "labels")
OPTIONAL = (
    "text_features",
    "text_lengths",
    "prompt_features",
    "split",
    "class_names",
    "key",
    "domain",
    "domain_names",
    "logit_scale",
)
CALLED: Mapping[str, tuple[str, ...]] = {
    "features": (
        *("image_features", "image_feats", "feats", "visual_features", "img_features"),
        *("embeddings", "image_embeddings", "image_embeds"),
    ),
    "labels": ("label", "targets", "target", "image_labels", "y"),
    "text_features": (
        *("text_feats", "text_embeddings", "text_embeds", "text_weights"),
        *("clip_weights", "zeroshot_weights"),
    ),
    "class_names": ("classnames", "classes"),
    "key": ("keys", "paths", "image_paths", "filenames"),
    "split": ("splits",),
}
"""What others call these arrays; the first that is there counts."""
_KNOWN = {*REQUIRED, *OPTIONAL, *(name for names in CALLED.values() for name in names)}
TORCH = (".pt", ".pth", ".bin")
"""Endings of PyTorch's files."""


@dataclass(frozen=True)
class ImportFile:
    """The arrays of a file, and one sentence for each thing that it left open."""

    source: Path
    arrays: Mapping[str, np.ndarray]
    notes: list[str] = field(default_factory=list)

    def wrong(self, name: str, what: str) -> UserError:
        """Say of an array what is wrong with it."""
        return UserError(f"{self.source}: {name} {what}")

    def per_image(self, name: str, n: int) -> np.ndarray:
        """Take an array that has one value an image."""
        array = self.arrays[name]
        if array.shape != (n,):
            raise self.wrong(name, f"has shape {list(array.shape)}; it must be [{n}], as features")
        return array

    def strings(self, name: str) -> list[str]:
        """Take an array as text, made printable."""
        array = self.arrays[name].reshape(-1)
        if array.dtype.kind == "S":
            return [printable(str(each, "utf-8", "surrogateescape")) for each in array.tolist()]
        if array.dtype.kind != "U":
            raise self.wrong(name, f"has type {array.dtype}; it must be strings")
        codes = np.ascontiguousarray(array).view(np.dtype("u4").newbyteorder(array.dtype.byteorder))
        if codes.max(initial=0) > sys.maxunicode:  # Python would make a string that breaks it
            raise self.wrong(name, f"is no text: {codes.max()} is no character")
        return [printable(each) for each in array.tolist()]

    def vectors(self, name: str, array: np.ndarray, wanted: str, fits: bool) -> np.ndarray:
        """Check type and shape of vectors; float32."""
        if array.dtype.kind != "f":
            raise self.wrong(name, f"has type {array.dtype}; it must be floating point")
        if not fits:
            raise self.wrong(name, f"has shape {list(array.shape)}; it must be {wanted}")
        # What is too large is infinite then, and refused.
        with np.errstate(over="ignore", invalid="ignore"):
            return array.astype(np.float32)


def load_import(source: Path) -> ImportFile:
    """Read the arrays that are known, never unpickling."""
    if not source.is_file():
        raise UserError(f"there is no file {source}; --features takes a NumPy .npz, or a .pt")
    arrays = _read_torch(source) if source.suffix in TORCH else read_npz(source, _KNOWN)
    file = ImportFile(source, arrays)
    names = list(arrays)
    for name, others in CALLED.items():
        other = next((other for other in others if other in arrays), "")
        if name not in arrays and other:
            arrays[name] = arrays.pop(other)
            file.notes.append(f"{other} is read as {name}")
    for name in REQUIRED:
        if name not in arrays:
            hint = suggestion(name, names)
            raise file.wrong(name, f"is missing; the file holds {', '.join(names)}{hint}")
    _lay_out(file, arrays)
    return file


def _lay_out(file: ImportFile, arrays: dict[str, np.ndarray]) -> None:
    """Bring labels to numbers [N], and vectors to the last axis where sizes tell they are not."""
    labels = arrays["labels"]
    if labels.ndim == 2 and _is_one_hot(labels):
        arrays["labels"] = labels.argmax(1) if labels.shape[1] > 1 else labels[:, 0]
        file.notes.append("labels are one-hot; the class of each is the place of its 1")
    features, text = arrays["features"], arrays.get("text_features", np.zeros(()))
    n = len(arrays["labels"]) if arrays["labels"].ndim else -1
    if features.ndim > 1 and features.shape[-1] == n != features.shape[-2]:
        arrays["features"] = features = features.swapaxes(-1, -2)
        file.notes.append("features are [D N]; they were turned")
    dim = features.shape[-1] if features.ndim else -1
    if text.ndim == 2 and text.shape[0] == dim != text.shape[1]:
        arrays["text_features"] = text.T
        file.notes.append("text_features are [D C]; they were turned")


def _is_one_hot(labels: np.ndarray) -> bool:
    if labels.dtype.kind not in "biuf" or not labels.size:
        return False
    return bool(((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all())


def _read_torch(source: Path) -> dict[str, np.ndarray]:
    return {
        name: array.astype(np.float32)
        if name in _KNOWN and array.dtype.name == "bfloat16"
        else array
        for name, array in read_torch(source, lists=True).items()
    }
