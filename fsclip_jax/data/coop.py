"""Data sets in the folders that CoOp's DATASETS.md describes: ``coop:NAME@ROOT``."""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from fsclip_jax.data.catalog import KNOWN_SETS, find_known, name_hint
from fsclip_jax.data.folder import is_picture, subfolders, visible_entries
from fsclip_jax.data.labelled import ImageRecords, content_version, make_source
from fsclip_jax.data.names import spoken, wordnet_names
from fsclip_jax.data.pictures import FileLoader
from fsclip_jax.data.published import CoopFolder, KnownSet
from fsclip_jax.data.source import ImageSource
from fsclip_jax.data.split_file import read_split_file
from fsclip_jax.data.splits import SPLITS, TEST
from fsclip_jax.errors import UserError, some
from fsclip_jax.pixels import require_regular

_CLASS_NAMES = "classnames.txt"


def open_coop(name: str, root: str) -> ImageSource:
    """Open a published data set in CoOp's layout.

    Pictures are read as CLIP's own pipeline reads them: the EXIF orientation and transparency
    are ignored. Labels, class order, class names and splits are CoOp's, but for ImageNet, whose
    official val images are ``test`` here and in CoOp, where they are val as well. ``root`` holds
    all data sets, or is the folder of this one.

    Raises:
        UserError: the set or a folder is unknown, the split file is missing or wrong, or an
            image that it names is not there.
    """
    spec = f"coop:{name}@{root}"
    known, coop = _known(name, spec)
    base = find_base(coop, Path(root).expanduser())
    if base is None:
        raise UserError(f"{spec}: {_missing(coop, Path(root).expanduser())}; {_how(known)}")
    records = _READERS[coop.layout](known, coop, base, spec)
    splits = (SPLITS[split] for split in records.splits.tolist())
    labels = map(str, records.labels.tolist())
    return make_source(
        spec,
        records,
        version=content_version(records.keys, labels, splits, records.class_names),
        templates=known.templates,
        load=FileLoader(base / coop.images, records.keys, "clip"),
    )


def find_base(coop: CoopFolder, root: Path) -> Path | None:
    """Return the folder of a set, given the root of all sets or the folder itself."""
    for base in (root / coop.folder, root):
        if (base / coop.images).is_dir() and (coop.images or (base / coop.split).is_file()):
            return base
    return None


def _known(name: str, spec: str) -> tuple[KnownSet, CoopFolder]:
    known = find_known(name)
    if known is None or known.coop is None:
        names = ", ".join(one.name for one in KNOWN_SETS if one.coop)
        raise UserError(f"{spec}: unknown data set {name!r}; accepted are {names}{name_hint(name)}")
    return known, known.coop


def _missing(coop: CoopFolder, root: Path) -> str:
    if not root.exists():
        return f"there is no folder {root}"
    images = f"{coop.folder}/{coop.images or 'cars_train'}"
    return f"neither {images} nor {coop.images or coop.split} is in {root}"


def _how(known: KnownSet) -> str:
    return f"`fsclip datasets {known.name}` says what to download and where it goes"


def _read_json(known: KnownSet, coop: CoopFolder, base: Path, spec: str) -> ImageRecords:
    path = base / coop.split
    if not path.is_file():
        raise UserError(f"{spec}: {coop.split} is not in {base}; {_how(known)}")
    records = read_split_file(path, known, base / coop.images)
    keys = _found_files(base / coop.images, records.keys, coop.split, spec)
    return dataclasses.replace(records, keys=keys)


def _read_aircraft(known: KnownSet, coop: CoopFolder, base: Path, spec: str) -> ImageRecords:
    """Read FGVC-Aircraft: a list of images with their variant for each split."""
    variants = _lines(base / "variants.txt", known, spec)
    labels_of = {variant: label for label, variant in enumerate(variants)}
    files: dict[str, tuple[int, int]] = {}
    for split, split_name in enumerate(SPLITS):
        name = f"images_variant_{split_name}.txt"
        for line in _lines(base / name, known, spec):
            image, _, variant = line.partition(" ")
            if variant not in labels_of:
                raise UserError(
                    f"{spec}: {name} names the variant {variant!r}, which is not in variants.txt; "
                    "unpack the archive again"
                )
            if Path(image).name != image or files.setdefault(
                f"{image}.jpg", (labels_of[variant], split)
            ) != (labels_of[variant], split):
                raise UserError(f"{spec}: {name} has the wrong image {image!r}; unpack it again")
    _found_files(base / coop.images, files, "images_variant_*.txt", spec)
    return _records(files, variants)


def _read_imagenet(known: KnownSet, coop: CoopFolder, base: Path, spec: str) -> ImageRecords:
    """Read ImageNet: ``train/WNID/*`` is train and ``val/WNID/*`` is test."""
    names = _imagenet_names(base, spec)
    folders = [(part, split) for part, split in (("train", 0), ("val", TEST))]
    files: dict[str, tuple[int, int]] = {}
    for part, split in folders:
        if not (base / coop.images / part).is_dir():
            raise UserError(f"{spec}: there is no {coop.images}/{part} in {base}; {_how(known)}")
        files |= _by_wnid(base / coop.images, part, split, names, spec)
    return _records(files, list(names.values()))


def _read_wnid(known: KnownSet, coop: CoopFolder, base: Path, spec: str) -> ImageRecords:
    """Read a variant of ImageNet that has one folder for each WordNet id; all is test."""
    del known
    names = _imagenet_names(base, spec)
    return _records(_by_wnid(base / coop.images, "", TEST, names, spec), list(names.values()))


def _read_numbered(known: KnownSet, coop: CoopFolder, base: Path, spec: str) -> ImageRecords:
    """Read ImageNetV2: a folder for each label; all is test."""
    del known
    names = list(_imagenet_names(base, spec).values())
    files: dict[str, tuple[int, int]] = {}
    for folder in sorted(subfolders(base / coop.images)):
        if not folder.isdecimal() or int(folder) >= len(names):
            raise UserError(f"{spec}: the folder {folder!r} is no label; accepted: 0 to 999")
        files |= {
            f"{folder}/{file}": (int(folder), TEST)
            for file in _pictures(base / coop.images / folder)
        }
    return _records(files, names)


_READERS = {
    "json": _read_json,
    "aircraft": _read_aircraft,
    "imagenet": _read_imagenet,
    "wnid": _read_wnid,
    "numbered": _read_numbered,
}


def _by_wnid(
    images: Path, part: str, split: int, names: Mapping[str, str], spec: str
) -> dict[str, tuple[int, int]]:
    labels = {wnid: label for label, wnid in enumerate(names)}
    files: dict[str, tuple[int, int]] = {}
    for folder in sorted(subfolders(images / part)):
        if folder not in labels:
            raise UserError(
                f"{spec}: the folder {folder!r} in {images / part} is none of ImageNet's classes, "
                "which are called like n01440764; move it away"
            )
        prefix = f"{part}/{folder}" if part else folder
        files |= {
            f"{prefix}/{file}": (labels[folder], split) for file in _pictures(images / prefix)
        }
    return files


def _imagenet_names(base: Path, spec: str) -> Mapping[str, str]:
    """Class names by WordNet id: of CoOp's ``classnames.txt`` if it is there, else CLIP's."""
    path = base / _CLASS_NAMES
    if not path.is_file():
        return wordnet_names()
    lines = [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    names = {wnid: spoken(name) for wnid, _, name in (line.partition(" ") for line in lines)}
    if set(names) != set(wordnet_names()) or not all(names.values()):
        raise UserError(
            f"{spec}: {path} should have 1,000 lines like 'n01440764 tench'; "
            "remove it to use CLIP's own names, or download it again"
        )
    return dict(sorted(names.items()))


def _records(files: Mapping[str, tuple[int, int]], class_names: list[str]) -> ImageRecords:
    keys = sorted(files, key=lambda key: (files[key][0], key))
    return ImageRecords(
        keys=tuple(keys),
        labels=np.array([files[key][0] for key in keys], np.int32),
        splits=np.array([files[key][1] for key in keys], np.int8),
        class_names=tuple(spoken(name) for name in class_names),
    )


def _lines(path: Path, known: KnownSet, spec: str) -> list[str]:
    try:
        require_regular(path)
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{spec}: cannot read {path}; {_how(known)}") from error
    return [line.strip() for line in lines if line.strip()]


def _pictures(folder: Path) -> list[str]:
    """Name the pictures of a folder; a link that leads nowhere is one, to be missed when read."""
    return [entry.name for entry in visible_entries(folder) if is_picture(entry.name)]


def _found_files(images: Path, keys: Iterable[str], source: str, spec: str) -> tuple[str, ...]:
    """Give images their names on disk, where an ending may be in another case.

    A data set of which images are missing is refused: half an archive gives wrong numbers.
    """
    folders: dict[str, dict[str, str]] = {}
    keys, found, missing = list(keys), [], []
    for key in keys:
        folder, _, file = key.rpartition("/")
        if folder not in folders:
            names: list[str] = []
            if os.path.isdir(images / folder):  # of any name, one that is too long too
                inside = set(subfolders(images / folder))
                names = [e.name for e in visible_entries(images / folder) if e.name not in inside]
            folders[folder] = {_any_case(name): name for name in names}
            folders[folder] |= {name: name for name in names}
        name = folders[folder].get(file) or folders[folder].get(_any_case(file))
        found.append(f"{folder}/{name}" if folder else name or "")
        if not name:
            missing.append(key)
    if missing:
        raise UserError(
            f"{spec}: {len(missing)} of the {len(keys)} images in {source} are not in {images}: "
            f"{some(missing)}; unpack the archive there again"
        )
    return tuple(found)


def _any_case(name: str) -> str:
    """A file name with its ending in small letters; ``/`` keeps it apart from every real name."""
    stem, dot, ending = name.rpartition(".")
    return f"/{stem}{dot}{ending.lower()}"
