"""CoOp's ``split_zhou_*.json``: which image is in which split, with which label and class name.

``{"train": [["accordion/image_0001.jpg", 3, "accordion"], ...], "val": [...], "test": [...]}``
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fsclip_jax.data.labelled import ImageRecords
from fsclip_jax.data.names import clean_name, spoken
from fsclip_jax.data.published import KnownSet
from fsclip_jax.data.splits import SPLITS
from fsclip_jax.errors import UserError

_FORM = (
    'expected {"train": [["CLASS/IMAGE.jpg", LABEL, "CLASS NAME"], ...], "val": ..., "test": ...}'
)


def read_split_file(path: Path, known: KnownSet | None = None) -> ImageRecords:
    """Read and check a split file.

    An entry that is there twice in one split with one label counts once.

    Returns:
        The images, train first; their keys are the paths in the file.

    Raises:
        UserError: the file is missing or no JSON, an entry has another form, a path leads out of
            the folder of the images, an image is in two splits or has two labels, or a label two
            names.
    """
    content = _read_json(path)
    entries: dict[str, tuple[int, int]] = {}  # path: (label, split)
    names: dict[int, str] = {}
    for split, name in enumerate(SPLITS):
        for entry in content.get(name, []):
            key, label, class_name = _checked(path, name, entry)
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
        raise UserError(f"{path}: no image is listed; {_FORM}")
    cleaned = {label: _clean(name, known) for label, name in names.items()}
    found = list(entries.values())
    return ImageRecords(
        keys=tuple(entries),
        labels=np.array([label for label, _ in found], np.int32),
        splits=np.array([split for _, split in found], np.int8),
        class_names=tuple(cleaned.get(label, "") for label in range(max(names) + 1)),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UserError(f"there is no split file {path}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error}): download it again") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(name, []), list) for name in SPLITS
    ):
        raise UserError(f"{path} is no split file; {_FORM}")
    if "train" not in content and "test" not in content:
        raise UserError(f"{path} has neither train nor test; {_FORM}")
    return content


def _checked(path: Path, split: str, entry: Any) -> tuple[str, int, str]:
    match entry:
        case [str(key), int(label), str(name)] if (
            not isinstance(label, bool) and 0 <= label < 100_000 and key and name
        ):
            pass
        case _:
            raise UserError(f"{path}: the entry {str(entry)[:80]} in {split}; {_FORM}")
    parts = PurePosixPath(key).parts
    if key.startswith("/") or ".." in parts or "\\" in key or "\0" in key or ":" in parts[0]:
        raise UserError(
            f"{path}: the path {key!r} leads out of the folder of the images; "
            "use the published file"
        )
    return "/".join(parts), label, name


def _clean(name: str, known: KnownSet | None) -> str:
    if known is None:
        return spoken(name)
    # What CoOp leaves out is in none of its files; if it is in this one, it is wanted.
    return clean_name(name, known) or spoken(name)
