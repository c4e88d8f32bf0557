"""Data sets of the Hugging Face hub, or local parquet files and folders: ``hf:NAME[@CONFIG]``."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int8
from PIL import Image

from fsclip_jax.data.catalog import find_known
from fsclip_jax.data.folder import is_hidden, unread_folders
from fsclip_jax.data.labelled import (
    ImageRecords,
    content_version,
    image_and_label,
    make_source,
    split_published,
)
from fsclip_jax.data.names import in_published_order, published_classes
from fsclip_jax.data.pictures import decode_image
from fsclip_jax.data.source import ImageSource, UnreadableImage
from fsclip_jax.data.templates import PHOTO
from fsclip_jax.errors import UserError, require_extra
from fsclip_jax.pixels import require_regular

_LABELS = ("label", "labels", "fine_label", "target", "class")
"""Which of several columns of labels is taken, the first that is there."""


@dataclass(frozen=True, eq=False)
class HfLoader:
    """Reads the images of a data set of the ``datasets`` package.

    There is one table a split; other processes are sent the names of its files in the cache.
    """

    parts: tuple[Any, ...]
    split_of: Int8[np.ndarray, "n"]
    rows: Int[np.ndarray, "n"]
    column: str
    keys: tuple[str, ...]

    def __call__(self, index: int, at_least: int | None = None) -> Image.Image:
        """Read one image.

        Raises:
            UnreadableImage: there is no image, or it cannot be decoded.
        """
        key = self.keys[index]
        cell = self.parts[self.split_of[index]][int(self.rows[index])][self.column]
        if cell is None:
            raise UnreadableImage(key, "the row has no image")
        data = cell["bytes"]
        if data is None:
            try:
                require_regular(cell["path"])
                data = Path(cell["path"]).read_bytes()
            except (OSError, TypeError) as error:
                raise UnreadableImage(key, f"its file cannot be read: {error}") from error
        return decode_image(data, key, "clip", at_least)


def open_hf(name: str, config: str = "") -> ImageSource:
    """Open a data set with the ``datasets`` package.

    The columns are found by their types: one of images, and one of class labels (or, if there is
    none, one of integers or strings that is called ``label``). Rows whose label is missing or
    -1 are left out, and what systems leave in local folders. Nothing that a data set brings is
    executed.

    ``name`` is a repository on the hub, downloaded or in the cache, or a local folder of parquet
    files, or of pictures in folders.

    Raises:
        UserError: the package is missing, the data set cannot be loaded, or it has no images or
            labels.
    """
    spec = f"hf:{name}" + (f"@{config}" if config else "")
    tables = _load(name, config, spec)
    image, label = _columns(next(iter(tables.values())).features, spec)
    labels, raw_names, split_of, rows = _labels(tables, label)
    known = find_known(name)
    if known and in_published_order(raw_names, known) is None:
        known = None  # the name alone proves nothing: a folder may be called food
    folder, notes = Path(name).expanduser(), []
    if folder.is_dir():
        junk = [label for label, one in enumerate(raw_names) if is_hidden(one)]
        split_of = np.where(np.isin(labels, junk), -1, split_of).astype(np.int8)
        notes = [f"{spec}: {note}" for note in unread_folders(folder)]
    labels, names = published_classes(labels, raw_names, known)
    split_names = tuple(tables)
    found = np.flatnonzero((labels >= 0) & (split_of >= 0))
    named = [split_names[split] for split in split_of[found]]
    keys = [f"{name}/{row:07d}" for name, row in zip(named, rows[found], strict=True)]
    splits = split_published(known, named, keys, labels[found])
    placed = np.flatnonzero(splits >= 0)
    keep = found[placed]
    listing = ImageRecords(tuple(keys[row] for row in placed), labels[keep], splits[placed], names)
    undecoded = tuple(_undecoded(table, image) for table in tables.values())
    source = make_source(
        spec,
        listing,
        version=content_version(
            map(_origin, tables.values()), listing.keys, map(str, listing.labels.tolist())
        ),
        templates=known.templates if known else PHOTO,
        load=HfLoader(undecoded, split_of[keep], rows[keep], image, listing.keys),
    )
    return replace(source, notes=tuple(notes))


def _load(name: str, config: str, spec: str) -> Mapping[str, Any]:
    require_extra(["datasets"], "hf", f"{spec}: reading it")
    import datasets

    path = Path(name).expanduser()
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            loaded = datasets.load_from_disk(str(path))
        else:
            loaded = datasets.load_dataset(str(path) if path.is_dir() else name, config or None)
    # Of many kinds: not there, no network, another layout, a broken file, a script in it.
    except Exception as error:
        # Of a file that cannot be read the package says so, and keeps what is wrong to itself.
        told = error.__cause__ if type(error).__name__ == "DatasetGenerationError" else error
        reason = " ".join(str(told).split())[:300] or type(error).__name__
        raise UserError(
            f"{spec}: cannot be loaded: {reason}; give a repository of the hub, downloaded before "
            "if there is no network, or a local folder"
        ) from error
    tables = loaded if isinstance(loaded, Mapping) else {str(loaded.split or "train"): loaded}
    filled = {str(split): table for split, table in tables.items() if len(table)}
    if not filled:
        raise UserError(f"{spec}: the data set is empty")
    return filled


def _columns(features: Mapping[str, Any], spec: str) -> tuple[str, str]:
    """Find the columns of images and labels by their types."""
    import datasets

    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if not labels:
        labels = [
            name
            for name, kind in features.items()
            if name in _LABELS
            and isinstance(kind, datasets.Value)
            and kind.dtype.startswith(("int", "uint", "string", "large_string"))
        ]
    return image_and_label(images, labels, features.items(), spec, _LABELS)


def _labels(
    tables: Mapping[str, Any], column: str
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray, np.ndarray]:
    """Read all labels: class of each row, names of the classes, split (-1: no label) and row."""
    values = [list(table[column][:]) for table in tables.values()]
    kind = next(iter(tables.values())).features[column]
    every = [value for part in values for value in part]
    present = np.array([value is not None and value != -1 for value in every], bool)
    if hasattr(kind, "names"):
        names = tuple(map(str, kind.names))
        numbers = [value if ok else 0 for value, ok in zip(every, present, strict=True)]
    else:
        found = sorted({value for value, ok in zip(every, present, strict=True) if ok})
        names = tuple(map(str, found))
        place = {value: number for number, value in enumerate(found)}
        numbers = [place.get(value, 0) for value in every]
    split_of = np.repeat(np.arange(len(values), dtype=np.int8), [len(part) for part in values])
    rows = np.concatenate([np.arange(len(part)) for part in values])
    labels = np.array(numbers, np.int32)
    return labels, names, np.where(present, split_of, -1).astype(np.int8), rows


def _undecoded(table: Any, column: str) -> Any:
    import datasets

    return table.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _origin(table: Any) -> str:
    """What tells one version of a table from another: its place in the cache, a hash."""
    files = [Path(file["filename"]) for file in table.cache_files]
    return " ".join(f"{file.parent.name}/{file.name}" for file in files)
