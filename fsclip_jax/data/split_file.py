"""CoOp's ``split_zhou_*.json``: which image is in which split, with which label and class name.

``{"train": [["accordion/image_0001.jpg", 3, "accordion"], ...], "val": [...], "test": [...]}``
"""

import re
from pathlib import Path, PurePosixPath
from typing import Annotated, TypeAlias

import numpy as np
from msgspec import Meta, Struct

from fsclip_jax.data.labelled import ImageRecords
from fsclip_jax.data.names import clean_name, spoken
from fsclip_jax.data.published import KnownSet
from fsclip_jax.data.splits import SPLITS
from fsclip_jax.errors import UserError
from fsclip_jax.json_files import read_layout

_FORM = '{"train": [["CLASS/IMAGE.jpg", LABEL, "CLASS NAME"], ...], "val": ..., "test": ...}'
_Text: TypeAlias = Annotated[str, Meta(min_length=1)]
_Entry: TypeAlias = tuple[_Text, Annotated[int, Meta(ge=0, lt=100_000)], _Text]


class _SplitFile(Struct):
    train: list[_Entry] = []
    val: list[_Entry] = []
    test: list[_Entry] = []


def read_split_file(
    path: Path, known: KnownSet | None = None, images: Path | None = None
) -> ImageRecords:
    """Read and check a split file.

    An entry that is there twice in one split with one label counts once. Returns the images, train
    first; their keys are the paths in the file, within the folder ``images``.

    Raises:
        UserError: the file is missing or no JSON, an entry has another form, a path leads out of
            the folder of the images, an image is in two splits or has two labels, or a label two
            names.
    """
    content: _SplitFile = read_layout(path, _SplitFile, "split file", _FORM)
    entries: dict[str, tuple[int, int]] = {}  # path: (label, split)
    names: dict[int, str] = {}
    for split, name in enumerate(SPLITS):
        for place, label, class_name in getattr(content, name):
            key = _inside(path, place, known, images)
            if entries.setdefault(key, (label, split)) != (label, split):
                raise UserError(
                    f"{path}: {key} is listed twice, in two splits or with two labels; "
                    "use the published file"
                )
            if names.setdefault(label, class_name) != class_name:
                raise UserError(
                    f"{path}: label {label} is called {names[label]!r} and {class_name!r}; "
                    "use the published file"
                )
    if not entries:
        raise UserError(f"{path}: no image is listed; expected is {_FORM}")
    cleaned = {label: _clean(name, known) for label, name in names.items()}
    found = list(entries.values())
    return ImageRecords(
        keys=tuple(entries),
        labels=np.array([label for label, _ in found], np.int32),
        splits=np.array([split for _, split in found], np.int8),
        class_names=tuple(cleaned.get(label, "") for label in range(max(names) + 1)),
    )


def _inside(path: Path, key: str, known: KnownSet | None, images: Path | None) -> str:
    r"""Write a path as it is within the folder of the images.

    ``\`` is read as ``/``. The folder of the images is left out where a path starts with it, and of
    an absolute path all up to it.
    """
    plain = key.replace("\\", "/")
    parts = PurePosixPath(plain).parts
    folders = (known.coop.folder, known.coop.images) if known and known.coop else ()
    root = images.absolute().parts if images else ()
    why = "leads out of the folder of the images" if ".." in parts or "\0" in key else ""
    if plain.startswith("/") or re.match("[A-Za-z]:", plain):
        ends = [place for place, part in enumerate(parts[1:], 2) if part in folders]
        if root and parts[: len(root)] == root:
            ends = [len(root)]
        if not ends:
            why = why or "is absolute and leads out of the folder of the images"
        parts = parts[ends[-1] :] if ends else ()
    for folder in folders:
        parts = parts[1:] if parts[:1] == (folder,) and len(parts) > 1 else parts
    if why or not parts:
        why = why or "names no image"
        raise UserError(f"{path}: the path {key!r} {why}; write it as it is within that folder")
    return "/".join(parts)


def _clean(name: str, known: KnownSet | None) -> str:
    if known is None:
        return spoken(name)
    # What CoOp leaves out is in none of its files; if it is in this one, it is wanted.
    return clean_name(name, known) or spoken(name)
