"""A folder of labelled pictures: one sub-folder per class."""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from fsclip_jax.data.left_out import (
    BY_ENDING,
    UNREAD,
    Passed,
    count_kinds,
    needs_heic,
    pass_over,
    passed_over,
)
from fsclip_jax.data.names import folder_classes
from fsclip_jax.data.pictures import FileLoader
from fsclip_jax.data.source import ImageSource
from fsclip_jax.data.splits import TRAIN, split_by_hash, split_called
from fsclip_jax.data.templates import PHOTO
from fsclip_jax.errors import UserError, some
from fsclip_jax.pixels import HEIC_ENDINGS, NEEDS_HEIC, reads_heic

EXTENSIONS = (
    *(".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".mpo"),
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp"),
)
"""Files that count as pictures, in either case, beside HEIC where it can be read; all others are
counted and named."""

LAYOUT = "expected one sub-folder per class, DIR/CLASS/*.jpg, or DIR/{train,val,test}/CLASS/*.jpg"

_KINDS = "jpg, png, webp, gif, bmp, tif, avif, heic"

_JUNK = {
    *("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"),
    *("__pycache__", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    *("#recycle", "#snapshot", "@recycle", "@tmp", "recycler"),
}
"""What systems and archivers leave in folders; as hidden as a name that starts with a dot."""


def open_folder(path: str | Path) -> ImageSource:
    """Open a folder of labelled pictures.

    The classes are the sub-folders in natural order (``a2`` before ``a10``), called as
    ``data.names.folder_classes`` says. Hidden files are ignored; files that are no pictures, and
    folders within the class folders, are passed over with a note. With ``train``, ``val`` and
    ``test`` sub-folders (``splits.split_called`` knows other words for them), these are the splits;
    without, each class is split 50/20/30 by the hashes of its file names.

    Pictures are read when they are asked for, upright and on white; see ``data.pictures``. The
    version is a hash over the names and sizes of all pictures: a picture replaced by another of
    equal size goes unnoticed.

    Raises:
        UserError: the folder is missing, is empty, has no class folders, has fewer than two
            classes, or has an empty class.
    """
    root = Path(path).expanduser()
    spec = f"folder:{path}"
    passed: Passed = {}
    folders = _class_folders(root, spec, passed)
    labels_of, names, notes = _class_names([name for _, name in folders], spec)
    files = []  # (key, size, label, split)
    for split, name in folders:
        prefix = f"{split}/{name}/" if split else f"{name}/"
        files += [
            (f"{prefix}{file.name}", _size(file), labels_of[name], split)
            for file in _picture_files(root / prefix, prefix, passed)
        ]
    files.sort(key=lambda file: (file[2], _natural(file[0])))
    keys = tuple(key for key, _, _, _ in files)
    labels = np.array([label for _, _, label, _ in files], np.int32)
    _require_full_classes(labels, names, spec, passed)
    if any(split for split, _ in folders):
        splits = np.array([split_called(split) for _, _, _, split in files], np.int8)
    else:
        splits = split_by_hash(keys, labels)
    return ImageSource(
        spec=spec,
        version=_version([(key, size) for key, size, _, _ in files]),
        class_names=names,
        labels=labels,
        keys=keys,
        splits=splits,
        templates=PHOTO,
        load=FileLoader(root, keys, "upright"),
        draft=True,
        notes=tuple(f"{spec}: {note}" for note in (*notes, *passed_over(passed))),
        left_out=count_kinds(passed),
    )


def is_picture(name: str) -> bool:
    """Say whether a file counts as a picture, by the end of its name."""
    name = name.lower()
    return name.endswith(EXTENSIONS) or (name.endswith(HEIC_ENDINGS) and reads_heic())


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is nobody's picture or class, by its name."""
    return name.startswith(".") or name.casefold() in _JUNK


def _class_folders(root: Path, spec: str, passed: Passed) -> list[tuple[str, str]]:
    """Return (split, name) of every class folder; split is "" without split folders."""
    if not root.exists():
        raise UserError(f"{spec}: there is no such folder; {LAYOUT}")
    if not root.is_dir():
        raise UserError(f"{spec}: that is a file, not a folder; {LAYOUT}")
    top = subfolders(root)
    if not top:
        pictures = len(_picture_files(root, "", {}))
        found = f"{pictures} pictures but no sub-folders" if pictures else "no pictures"
        raise UserError(f"{spec}: the folder holds {found}; {LAYOUT}")
    known = [name for name in top if split_called(name) >= 0]
    others = [name for name in top if split_called(name) < 0]
    meant = {split_called(name) for name in known}
    # A lone "train" among others may well be a class: the vehicle.
    if not known or (others and not (TRAIN in meant and len(meant) > 1)):
        _note_loose(root, "", passed)
        return [("", name) for name in top]
    if others:
        raise UserError(
            f"{spec}: {some(others)} lies beside {', '.join(known)}; with split folders "
            "there may be only train, val and test; rename or move it"
        )
    for split in ("", *known):
        _note_loose(root / split, split and f"{split}/", passed)
    return [(split, name) for split in known for name in subfolders(root / split)]


def _note_loose(folder: Path, prefix: str, passed: Passed) -> None:
    others: Passed = {}
    loose = [f"{prefix}{file.name}" for file in _picture_files(folder, prefix, others)]
    pass_over(passed, "pictures outside of the class folders", loose)
    pass_over(passed, BY_ENDING, others.get(BY_ENDING, ()))


def subfolders(folder: Path) -> list[str]:
    """Name the folders in a folder that are not hidden, in no order."""
    return [entry.name for entry in visible_entries(folder) if _leads_to(entry, os.DirEntry.is_dir)]


def _picture_files(folder: Path, prefix: str, passed: Passed) -> list[os.DirEntry[str]]:
    """List the pictures that lie right in a folder and are not hidden, in no order."""
    found = []
    for entry in visible_entries(folder):
        why = ""
        if _leads_to(entry, os.DirEntry.is_dir):
            why = "folders within class folders"
        elif not _leads_to(entry, os.DirEntry.is_file):
            why = "names that lead to no regular file"
        elif not is_picture(entry.name):
            why = BY_ENDING
        if why:
            pass_over(passed, why, [f"{prefix}{entry.name}"])
        else:
            found.append(entry)
    return found


def _leads_to(entry: os.DirEntry[str], kind: Callable[[os.DirEntry[str]], bool]) -> bool:
    """Say of an entry, or of what it links to, whether it is of a kind; a loop is of none."""
    try:
        return kind(entry)
    except OSError:  # a link that goes round in a circle
        return False


def _size(entry: os.DirEntry[str]) -> int:
    """Number of bytes; 0 of a file that vanished, which is missed when it is read."""
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """Everything in a folder that is not hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not is_hidden(entry.name)]
    except OSError as error:
        denied = isinstance(error, PermissionError)
        why = "no permission to read it" if denied else error.strerror
        raise UserError(f"folder {folder}: {why}; make it readable, or move it away") from error


def _class_names(
    folder_names: Sequence[str], spec: str
) -> tuple[dict[str, int], tuple[str, ...], tuple[str, ...]]:
    """Return the label of every folder, the names of the classes, and notes."""
    folders = sorted(set(folder_names), key=_natural)
    if len(folders) < 2:
        found = f"one class only, {folders[0]}" if folders else "split folders without classes"
        raise UserError(f"{spec}: found {found}; at least two classes are needed; {LAYOUT}")
    return {folder: label for label, folder in enumerate(folders)}, *folder_classes(folders)


def _require_full_classes(
    labels: np.ndarray, names: Sequence[str], spec: str, passed: Passed
) -> None:
    counts = np.bincount(labels, minlength=len(names))
    empty = [name for name, count in zip(names, counts, strict=True) if not count]
    if empty:
        raise UserError(
            f"{spec}: no pictures ({_KINDS}) in the class {some(empty)}; "
            "add some or remove the folder" + _said(passed)
        )


def _natural(name: str) -> tuple[list[str | int], str]:
    """Sort key: numbers within names count as numbers, case does not; the name breaks ties."""
    parts = re.split(r"([0-9]+)", name.lower())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _version(files: Sequence[tuple[str, int]]) -> str:
    digest = hashlib.sha256()
    for key, size in sorted(files):
        digest.update(f"{key}\0{size}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _said(passed: Passed) -> str:
    return "".join(f"; {line}" for line in passed_over(passed))


def list_pictures(places: Sequence[Path], passed: Passed | None = None) -> tuple[str, ...]:
    """List the pictures of folders and files.

    Folders are searched with their sub-folders, in the order of the names; hidden ones, and
    folders that are links, are left out. A picture named twice is listed once. What is passed over
    is noted in ``passed``.

    Raises:
        UserError: a place is missing or no picture, or there is no picture at all.
    """
    found: dict[str, str] = {}  # by the whole path, whichever way it was given

    def add(name: str) -> None:
        found.setdefault(os.path.join(here, name), name)

    here = os.getcwd()
    passed = {} if passed is None else passed
    for place in places:
        if place.is_dir():
            for name in _below(place, passed):
                add(name)
        elif place.is_file():
            if not is_picture(place.name):
                hint = f"; install {NEEDS_HEIC} for it" if needs_heic(place.name) else ""
                raise UserError(f"{place} is no picture by its ending ({_KINDS}){hint}")
            add(str(place))
        elif place.exists():
            raise UserError(f"{place} is no regular file; give --images that are files or folders")
        else:
            raise UserError(f"{place}: there is no such file or folder; give --images that exist")
    if not found:
        where = ", ".join(map(str, places))
        raise UserError(f"no pictures ({_KINDS}) in {where}{_said(passed)}")
    return tuple(found.values())


def unread_folders(folder: Path) -> list[str]:
    """Name what cannot be read below a folder, in a sentence if there is any."""
    passed: Passed = {}
    for _ in _below(folder, passed):
        pass
    return list(passed_over({why: passed[why] for why in passed if why == UNREAD}))


def _below(folder: Path, passed: Passed) -> Iterator[str]:
    def unreadable(error: OSError) -> None:
        pass_over(passed, UNREAD, [f"{error.filename} ({error.strerror})"])

    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        links = [path for name in folders if os.path.islink(path := os.path.join(root, name))]
        pass_over(passed, "links to folders", links)
        for name in sorted(files):
            if is_picture(name) and not is_hidden(name):
                yield os.path.join(root, name)
            elif not is_hidden(name):
                pass_over(passed, BY_ENDING, [os.path.join(root, name)])
