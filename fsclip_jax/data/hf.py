"""Data sets of the Hugging Face hub, or local parquet files and folders: ``hf:NAME[@CONFIG]``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int8
from PIL import Image

from fsclip_jax.data.catalog import find_known
from fsclip_jax.data.labelled import ImageRecords, content_version, make_source
from fsclip_jax.data.names import in_published_order, published_classes
from fsclip_jax.data.pictures import decode_image
from fsclip_jax.data.published import KnownSet
from fsclip_jax.data.source import ImageSource, UnreadableImage
from fsclip_jax.data.splits import split_by_hash, split_named
from fsclip_jax.data.templates import PHOTO
from fsclip_jax.errors import UserError

_LABELS = ("label", "labels", "fine_label", "target", "class")
"""Which of several columns of labels is taken, the first that is there."""


@dataclass(frozen=True, eq=False)
class HfLoader:
    """Reads the images of a data set of the ``datasets`` package.

    Attributes:
        parts: one table a split. They map files of the cache and are sent to other processes as
            the names of these files.
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
                data = Path(cell["path"]).read_bytes()
            except (OSError, TypeError) as error:
                raise UnreadableImage(key, f"its file cannot be read: {error}") from error
        return decode_image(data, key, "clip", at_least)


def open_hf(name: str, config: str = "") -> ImageSource:
    """Open a data set with the ``datasets`` package.

    The columns are found by their types: one of images, and one of class labels (or, if there is
    none, one of integers or strings that is called ``label``). Rows whose label is missing or
    -1 are left out. Nothing that a data set brings is executed.

    Args:
        name: repository on the hub, downloaded or in the cache, or a local folder of parquet
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
    labels, names = published_classes(labels, raw_names, known)
    labels = np.where(split_of < 0, -1, labels).astype(np.int32)
    split_names = tuple(tables)
    keys = [f"{split_names[s]}/{row:07d}" for s, row in zip(split_of, rows, strict=True)]
    splits = _splits(split_names, split_of, keys, labels, known)
    keep = np.flatnonzero((labels >= 0) & (splits >= 0))
    records = ImageRecords(tuple(keys[row] for row in keep), labels[keep], splits[keep], names)
    undecoded = tuple(_undecoded(table, image) for table in tables.values())
    return make_source(
        spec,
        records,
        version=content_version(
            map(_origin, tables.values()), records.keys, map(str, records.labels.tolist())
        ),
        templates=known.templates if known else PHOTO,
        load=HfLoader(undecoded, split_of[keep], rows[keep], image, records.keys),
        draft=True,
    )


def _load(name: str, config: str, spec: str) -> Mapping[str, Any]:
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"{spec}: reading it needs the package datasets: pip install 'fsclip-jax[hf]'"
        ) from error
    path = Path(name).expanduser()
    try:
        if (path / "dataset_dict.json").is_file() or (path / "state.json").is_file():
            loaded = datasets.load_from_disk(str(path))
        else:
            loaded = datasets.load_dataset(str(path) if path.is_dir() else name, config or None)
    # Of many kinds: not there, no network, another layout, a broken file, a script in it.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
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
    image = "image" if "image" in images else images[0] if len(images) == 1 else None
    label = next((name for name in _LABELS if name in labels), None)
    if label is None and len(labels) == 1:
        label = labels[0]
    if image is None or label is None:
        found = ", ".join(f"{name}: {type(kind).__name__}" for name, kind in features.items())
        raise UserError(
            f"{spec}: a row needs one Image and one ClassLabel, called image and label if there "
            f"are several; the columns are {found}"
        )
    return image, label


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


def _splits(
    split_names: tuple[str, ...],
    split_of: np.ndarray,
    keys: list[str],
    labels: np.ndarray,
    known: KnownSet | None,
) -> np.ndarray:
    """Split as ``data.splits`` says; -1 where a row has no label or no place."""
    rows = np.flatnonzero(labels >= 0)
    kept = [keys[row] for row in rows]
    if known and known.pooled:
        found = split_by_hash(kept, labels[rows])
    else:
        named = [split_names[split] for split in split_of[rows]]
        found = split_named(named, kept, labels[rows], drawn_val=known.drawn_val if known else True)
    splits = np.full(len(keys), -1, np.int8)
    splits[rows] = found
    return splits


def _undecoded(table: Any, column: str) -> Any:
    import datasets

    return table.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _origin(table: Any) -> str:
    """What tells one version of a table from another: its place in the cache, a hash."""
    files = [Path(file["filename"]) for file in table.cache_files]
    return " ".join(f"{file.parent.name}/{file.name}" for file in files)
