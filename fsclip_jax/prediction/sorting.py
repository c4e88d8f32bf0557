"""``--move-to`` and ``--link-to``: pictures into one folder per class, so that it can be undone."""

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from filecmp import cmp
from pathlib import Path
from typing import Literal

import msgspec

from fsclip_jax.durable import FULL, only_writer, storage_errors, sync_folder
from fsclip_jax.errors import UserError
from fsclip_jax.prediction.carry import part_name, put
from fsclip_jax.prediction.class_folders import Taken, class_folders
from fsclip_jax.prediction.formats import Row
from fsclip_jax.prediction.journal import (
    Folder,
    Journal,
    Step,
    Writer,
    number_of,
    read_journal,
    status,
)

LOCK = ".fsclip-sorted.lock"
_AT_ONCE = 256  # pictures whose lines of the journal are flushed together


@dataclass
class Sorted:
    """What came of it.

    Attributes:
        count: pictures that were moved, or links that were made.
        before: those that an earlier run had sorted.
        left: every other one, and why.
    """

    count: int = 0
    before: int = 0
    left: list[tuple[str, str]] = field(default_factory=list)


def require_apart(folder: Path, images: Sequence[Path], support: Path, flag: str) -> None:
    """Refuse a folder whose pictures would be found again, or that takes labelled ones away.

    Raises:
        UserError: it is no folder, lies in ``images`` or ``support``, or they lie in it; or
            labelled pictures would be moved.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{flag} is {folder}, a file; give a folder, new or not")
    place = folder.resolve()
    for name, other in (*(("--images", image) for image in images), ("--support", support)):
        there = other.resolve()
        if place == there or there in place.parents or place in there.parents:
            raise UserError(
                f"{flag} {folder} and {name} {other} lie in one another, and what is sorted would "
                "be found again; give a folder beside"
            )
    home = support.resolve()
    for image in images:
        there = image.resolve()
        if flag == "--move-to" and (
            there == home or home in there.parents or there in home.parents
        ):
            raise UserError(
                f"--move-to would take labelled pictures out of --support {support}, which lies in "
                f"--images {image} or holds it; give --link-to, or other --images"
            )


def sort_pictures(
    rows: Iterable[Row], class_names: Sequence[str], folder: Path, how: Literal["move", "link"]
) -> Sorted:
    """Move the pictures of a table into class folders, or make links to them there.

    What is about to be done is in the folder's journal before, see ``journal``. Nothing is
    overwritten: a name that is taken gets a number. A picture that is a link is not moved.

    Raises:
        UserError: the folder cannot be written to, its journal is spoilt, or another process sorts
            into it.
    """
    folder = Path(os.path.abspath(folder))
    made = sum(not parent.exists() for parent in (folder, *folder.parents))
    done = Sorted()
    with only_writer(folder, LOCK, "sorts pictures", "folder"):
        journal = read_journal(folder)
        where = settle(folder, journal)
        rows = list(rows)
        names = class_folders((*class_names, *(row.label for row in rows)))
        with Writer(folder, journal, made) as writer, storage_errors(folder):
            steps = _plan(rows, names, folder, how, where, done)
            _make_folders(folder, steps, journal, writer)
            for low in range(0, len(steps), _AT_ONCE):
                some = steps[low : low + _AT_ONCE]
                writer.write(some)
                _carry_out(folder, some, writer, done)
    return done


def settle(folder: Path, journal: Journal | None) -> dict[str, Path]:
    """Finish what a stopped run began, and return where the pictures are that were sorted."""
    where: dict[str, Path] = {}
    for step in journal.steps if journal else ():
        place, image = folder / step.to, Path(step.image)
        (folder / part_name(step.number)).unlink(missing_ok=True)
        if step.how == "link":
            if is_link_to(place, step.image):
                where[step.image] = place
        elif step.is_at(place):
            if is_twice(place, image):
                image.unlink()
            where[step.image] = place
        elif is_reserved(place, step) and step.is_at(image):
            place.unlink()
    return where


def is_link_to(place: Path, image: str) -> bool:
    """Say whether a link to a picture lies at a place."""
    return place.is_symlink() and os.readlink(place) == image


def is_twice(place: Path, image: Path) -> bool:
    """Say whether the same picture lies at both places."""
    found, there = status(image), status(place)
    if found is None or there is None or not stat.S_ISREG(found.st_mode):
        return False
    if found.st_dev != there.st_dev:  # a copy
        return cmp(place, image, shallow=False)
    return os.path.samestat(found, there)


def is_reserved(place: Path, step: Step) -> bool:
    """Say whether an empty file keeps the place of a picture that has not come."""
    found = status(place)
    return bool(found and step.size and stat.S_ISREG(found.st_mode) and not found.st_size)


def _plan(
    rows: Iterable[Row],
    names: dict[str, str],
    folder: Path,
    how: Literal["move", "link"],
    where: dict[str, Path],
    done: Sorted,
) -> list[Step]:
    taken: dict[str, Taken] = {}
    seen: set[str] = set()
    steps = []
    for row in rows:
        image = os.path.abspath(row.image)
        if image in seen:
            continue
        seen.add(image)
        found = status(Path(image))
        if image in where and (how == "link" or found is None):
            done.before += 1
        elif found is None or not Path(image).is_file():
            done.left.append((row.image, "it is not there any more"))
        elif how == "move" and stat.S_ISLNK(found.st_mode):
            done.left.append((row.image, "it is a link, which --link-to sorts"))
        else:
            within = names[row.label]
            if within not in taken:
                taken[within] = Taken(_listed(folder / within))
            base = os.path.basename(image)
            to = f"{within}/{taken[within].take(base, os.path.splitext(base)[1])}"
            steps.append(Step(how, image, to, *number_of(found)))
    return steps


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _make_folders(
    folder: Path, steps: Sequence[Step], journal: Journal | None, writer: Writer
) -> None:
    """Make the class folders that are missing."""
    wanted = dict.fromkeys(step.to.split("/")[0] for step in steps)
    known = set(journal.folders if journal else ())
    for name in wanted:
        found = status(folder / name)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise UserError(
                f"{folder / name}, where the pictures of a class belong, is no folder; remove it, "
                "or give another folder"
            )
    new = [name for name in wanted if not (folder / name).exists()]
    writer.write([Folder(name) for name in new if name not in known])
    for name in new:
        (folder / name).mkdir()
    sync_folder(folder)


def _carry_out(folder: Path, steps: Sequence[Step], writer: Writer, done: Sorted) -> None:
    placed = []
    for step in steps:
        try:
            _place(folder, step, writer)
            placed.append(step)
        except FileExistsError:
            done.left.append((step.image, f"{step.to} came to be meanwhile"))
        except OSError as error:
            if error.errno in FULL:
                raise
            done.left.append((step.image, error.strerror or type(error).__name__))
    for name in dict.fromkeys(step.to.split("/")[0] for step in placed):
        sync_folder(folder / name)
    for step in placed:
        if step.how == "move":
            try:
                Path(step.image).unlink(missing_ok=True)
            except OSError as error:
                with suppress(OSError):
                    (folder / step.to).unlink()
                done.left.append((step.image, error.strerror or type(error).__name__))
                continue
        done.count += 1


def _place(folder: Path, step: Step, writer: Writer) -> None:
    place, image = folder / step.to, Path(step.image)
    if step.how == "link":
        place.symlink_to(image)
        return

    def ready(part: Path) -> None:
        number, size, time = number_of(part.lstat())
        writer.write([msgspec.structs.replace(step, number=number, size=size, time=time)])

    put(image, place, folder / part_name(step.number), ready)


def line_of(done: Sorted, folder: Path, how: Literal["move", "link"]) -> str:
    """Say what came of it."""
    what = "pictures moved into" if how == "move" else "links to pictures made in"
    before = f", {done.before} sorted before" if done.before else ""
    left = f", {len(done.left)} left where they are" if done.left else ""
    return f"{done.count} {what} {folder}{before}{left} (fsclip undo {folder} puts all back)"


def sorted_places(folder: Path) -> dict[str, Path]:
    """Return where the pictures lie that were moved into a folder, by their paths before.

    Raises:
        UserError: the journal there is spoilt.
    """
    folder = Path(os.path.abspath(folder))
    journal = read_journal(folder)
    steps = journal.steps if journal else ()
    moved = ((step, folder / step.to) for step in steps if step.how == "move")
    return {step.image: place for step, place in moved if step.is_at(place)}


def sorted_before(folder: Path, images: Sequence[Path]) -> int:
    """Count the pictures of files and folders that were moved into a folder.

    Raises:
        UserError: the journal there is spoilt.
    """
    places = [Path(os.path.abspath(image)) for image in images]
    found = map(Path, sorted_places(folder))
    return sum(any(place in (one, *one.parents) for place in places) for one in found)
