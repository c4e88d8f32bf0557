"""Data sets that TFDS has prepared on this machine: ``tfds:NAME[/CONFIG][@SPLIT.json]``.

They are read without TensorFlow, from ArrayRecord files; preparing them takes it, once.
"""

import functools
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Int, Int8
from PIL import Image

from fsclip_jax.data.catalog import find_builder
from fsclip_jax.data.labelled import (
    ImageRecords,
    content_version,
    image_and_label,
    make_source,
    split_published,
)
from fsclip_jax.data.names import published_classes
from fsclip_jax.data.pictures import decode_image
from fsclip_jax.data.prepared import find_prepared, prepare_command
from fsclip_jax.data.published import KnownSet
from fsclip_jax.data.source import ImageSource, UnreadableImage
from fsclip_jax.data.split_file import read_split_file
from fsclip_jax.data.templates import PHOTO
from fsclip_jax.errors import UserError, some

_FILE_NAMES = ("file_name", "filename", "image/file_name", "image/filename", "id", "image_id")
"""Fields that name the image of a record, the first that is there counts."""


@dataclass(frozen=True, eq=False)
class TfdsLoader:
    """Reads the images of a prepared TFDS data set; can be sent to other processes."""

    folder: str
    image: str
    split_names: tuple[str, ...]
    split_of: Int8[np.ndarray, "n"]
    positions: Int[np.ndarray, "n"]
    keys: tuple[str, ...]

    def __call__(self, index: int, at_least: int | None = None) -> Image.Image:
        """Read one image.

        Raises:
            UnreadableImage: the record cannot be read or decoded.
        """
        key = self.keys[index]
        split = self.split_names[self.split_of[index]]
        try:
            record = _records(self.folder, split)[int(self.positions[index])]
        except (OSError, ValueError, IndexError, RuntimeError) as error:
            raise UnreadableImage(key, str(error).splitlines()[0]) from error
        return decode_image(record[self.image], key, "clip", at_least)


def open_tfds(name: str, split_file: str = "") -> ImageSource:
    """Open a data set that TFDS has prepared as ArrayRecord.

    Of a published set the version is pinned, and classes and their order are CoOp's. Any other
    builder with one image and one class label works too. Images are found in
    CoOp's JSON, ``split_file``, by their file names.

    Raises:
        UserError: the builder is unknown, not prepared or not as ArrayRecord, it has no image or
            label, or the JSON names an image that it has not.
    """
    spec = f"tfds:{name}" + (f"@{split_file}" if split_file else "")
    known = find_builder(name)
    folder = find_prepared(name, known, spec)
    fields = _fields(folder, known, spec)
    listing = _list(folder, fields, known, spec)
    if split_file:
        records = _resplit(listing, Path(split_file).expanduser(), known, spec)
    else:
        records = _own_split(listing, known)
    rows = np.array(records.positions, np.int64)
    return make_source(
        spec,
        records,
        version=content_version(
            [f"{folder.parent.name}:{folder.name}"],
            records.keys,
            map(str, records.labels.tolist()),
            map(str, records.splits.tolist()),
        ),
        templates=known.templates if known else PHOTO,
        load=TfdsLoader(
            str(folder),
            fields.image,
            listing.split_names,
            listing.split_of[rows],
            listing.positions[rows],
            records.keys,
        ),
    )


@dataclass(frozen=True)
class _Fields:
    image: str
    label: str
    class_names: tuple[str, ...]
    path: str
    """Pattern of the published path of an image; empty where records have no names."""


@dataclass(frozen=True, eq=False)
class _Listing:
    """What all records say of themselves, in the order in which they are stored."""

    split_names: tuple[str, ...]
    split_of: np.ndarray
    positions: np.ndarray
    keys: tuple[str, ...]
    labels: np.ndarray
    class_names: tuple[str, ...]


def _fields(folder: Path, known: KnownSet | None, spec: str) -> _Fields:
    """Find image and label of a record by the types of its fields."""
    import tensorflow_datasets as tfds

    try:
        features = _builder(str(folder)).info.features
    # Of many kinds: the metadata are protocol buffers as JSON, and fields of any type.
    except Exception as error:
        raise _unreadable(folder, known, error, spec) from error
    images = [name for name, kind in features.items() if isinstance(kind, tfds.features.Image)]
    labels = [name for name, kind in features.items() if isinstance(kind, tfds.features.ClassLabel)]
    image, label = image_and_label(images, labels, features.items(), spec)
    kind = features[label]
    names = tuple(kind.names) if kind.names else tuple(map(str, range(kind.num_classes)))
    name = next((name for name in _FILE_NAMES if name in features), "")
    path = known.tfds.path if known and known.tfds else f"{{{name}}}" if name else ""
    return _Fields(image, label, names, path)


def _list(folder: Path, fields: _Fields, known: KnownSet | None, spec: str) -> _Listing:
    """Read labels and names of all records."""
    split_names = tuple(sorted(_builder(str(folder)).info.splits))
    keys: list[str] = []
    labels: list[int] = []
    sizes: list[int] = []
    for split in split_names:
        before = len(keys)
        try:
            records = _records(str(folder), split)
            for number in range(len(records)):
                record = records[number]
                labels.append(int(record[fields.label]))
                keys.append(_key(fields, record, split, number))
        except NotImplementedError as error:
            raise UserError(
                f"{spec}: {folder} is prepared as TFRecord, which cannot be read at random; "
                f"move it away and prepare it as ArrayRecord: {prepare_command(folder, known)}"
            ) from error
        except ImportError as error:
            raise UserError(
                f"{spec}: reading it needs the package array_record, which exists for Linux and "
                "macOS only: pip install array_record"
            ) from error
        except (OSError, ValueError, RuntimeError, IndexError) as error:
            raise _unreadable(folder, known, error, spec) from error
        sizes.append(len(keys) - before)
    if len(set(keys)) < len(keys):  # names that are no names: number the records instead
        keys = [
            f"{split}/{row:07d}"
            for split, n in zip(split_names, sizes, strict=True)
            for row in range(n)
        ]
    unlabelled = np.array(labels, np.int64)
    cleaned, class_names = published_classes(
        np.maximum(unlabelled, 0).astype(np.int32), fields.class_names, known
    )
    return _Listing(
        split_names,
        np.repeat(np.arange(len(sizes), dtype=np.int8), sizes),
        np.concatenate([np.arange(n) for n in sizes]) if sizes else np.zeros(0, np.int64),
        tuple(keys),
        np.where(unlabelled < 0, -1, cleaned).astype(np.int32),
        class_names,
    )


def _unreadable(folder: Path, known: KnownSet | None, error: Exception, spec: str) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(
        f"{spec}: {folder} cannot be read ({reason}); "
        f"prepare it again: {prepare_command(folder, known)}"
    )


def _key(fields: _Fields, record: dict[str, Any], split: str, number: int) -> str:
    """The path of an image as CoOp's split has it, or a number."""
    if not fields.path:
        return f"{split}/{number:07d}"
    key = fields.path.replace("{split}", split)
    key = key.replace("{label}", fields.class_names[int(record[fields.label])].strip("/"))
    for name, value in record.items():
        if f"{{{name}}}" in key:
            text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
            key = key.replace(f"{{{name}}}", str(text))
    return key.strip("/")


def _own_split(listing: _Listing, known: KnownSet | None) -> ImageRecords:
    """Split without CoOp's JSON; the rules are in ``data.splits``."""
    rows = np.flatnonzero(listing.labels >= 0)
    keys = [listing.keys[row] for row in rows]
    labels = listing.labels[rows]
    named = [listing.split_names[split] for split in listing.split_of[rows]]
    splits = split_published(known, named, keys, labels)
    keep = np.flatnonzero(splits >= 0)
    return ImageRecords(
        tuple(keys[row] for row in keep),
        labels[keep],
        splits[keep],
        listing.class_names,
        tuple(rows[keep].tolist()),
    )


def _resplit(listing: _Listing, path: Path, known: KnownSet | None, spec: str) -> ImageRecords:
    """Split as CoOp's JSON does; names and labels are the JSON's too."""
    wanted = read_split_file(path, known)
    rows = {_plain(key): row for row, key in enumerate(listing.keys)}
    missing = [key for key in wanted.keys if _plain(key) not in rows]
    if missing:
        raise UserError(
            f"{spec}: {len(missing)} of the {len(wanted.keys)} images in {path.name} are not in "
            f"the prepared data, whose images are called like {some(listing.keys[:1])!r}: "
            f"{some(missing)}; is it the split of another data set?"
        )
    positions = tuple(rows[_plain(key)] for key in wanted.keys)
    return ImageRecords(wanted.keys, wanted.labels, wanted.splits, wanted.class_names, positions)


def _plain(key: str) -> str:
    """A path in one case and without ending: TFDS writes class folders small, some as PNG."""
    return str(PurePosixPath(key.casefold()).with_suffix(""))


@functools.lru_cache(maxsize=4)
def _builder(folder: str) -> Any:
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(folder)


@functools.lru_cache(maxsize=16)
def _records(folder: str, split: str) -> Any:
    """Open one split, images left encoded. Every process opens it once for itself."""
    import tensorflow_datasets as tfds

    builder = _builder(folder)
    skip = {
        name: tfds.decode.SkipDecoding()
        for name, kind in builder.info.features.items()
        if isinstance(kind, tfds.features.Image)
    }
    return builder.as_data_source(split=split, decoders=skip)
