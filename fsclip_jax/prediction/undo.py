"""``fsclip undo``: pictures that were sorted go back to where they were."""

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fsclip_jax.durable import FULL, only_writer, storage_errors, write_file
from fsclip_jax.prediction.carry import part_name, put
from fsclip_jax.prediction.journal import (
    NAME,
    Folder,
    Journal,
    Step,
    line_of,
    read_journal,
    status,
)
from fsclip_jax.prediction.sorting import LOCK, is_link_to, is_reserved, is_twice


@dataclass
class Undone:
    """What came of it.

    Attributes:
        back: pictures that are where they were, again.
        links: links that were removed.
        left: every other picture, and why.
    """

    back: int = 0
    links: int = 0
    left: list[tuple[str, str]] = field(default_factory=list)


class _StaysError(Exception):
    """A picture cannot go back; ``again`` says whether it may once something has changed."""

    def __init__(self, why: str, *, again: bool) -> None:
        super().__init__(why)
        self.again = again


def undo(folder: Path) -> Undone | None:
    """Put pictures back and remove links and folders that were made; None where there is nothing.

    The journal is trusted no further than what lies there: a file moves only where it is the one
    that was written down, and never over another one. Whatever moment it is stopped at, it goes on
    when it is asked again.

    Raises:
        UserError: the journal is spoilt, or another process sorts there.
    """
    folder = Path(os.path.abspath(folder))
    if not (folder / NAME).is_symlink() and not (folder / NAME).exists():
        return None
    with only_writer(folder, LOCK, "sorts pictures", "folder"):
        journal = read_journal(folder)
        if journal is None:
            (folder / NAME).unlink()
            return None
        with storage_errors(folder):
            done = _undo_all(folder, journal)
    if not (folder / NAME).exists():
        for empty in (folder, *folder.parents)[: journal.head.made]:
            try:
                empty.rmdir()
            except OSError:  # something else is in it
                break
    return done


def _undo_all(folder: Path, journal: Journal) -> Undone:
    done, again, told = Undone(), list[Step](), set[str]()
    for step in reversed(journal.steps):
        try:
            if step.how == "link":
                done.links += _undo_link(folder, step)
            else:
                done.back += _undo_move(folder, step)
        except _StaysError as left:
            if step.image not in told:
                done.left.append((step.image, str(left)))
            told.add(step.image)
            again += [step] * left.again
        except OSError as error:
            if error.errno in FULL:
                raise
            done.left.append((step.image, error.strerror or type(error).__name__))
            again.append(step)
    for name in journal.folders:
        with suppress(OSError):  # it holds something, or is gone
            (folder / name).rmdir()
    if again:
        lines = [line_of(journal.head)]
        lines += [line_of(Folder(name)) for name in journal.folders]
        lines += [line_of(step) for step in reversed(again)]
        write_file(folder / NAME, b"".join(lines))
    else:
        (folder / NAME).unlink()
    return done


def _undo_link(folder: Path, step: Step) -> bool:
    place = _within(folder, step)
    if is_link_to(place, step.image):
        place.unlink()
        return True
    if status(place) is not None:
        raise _StaysError(f"{step.to} is no longer the link to it", again=False)
    return False


def _undo_move(folder: Path, step: Step) -> bool:
    """Put a picture back; false where it was never away, or is back already."""
    place, image = _within(folder, step), Path(step.image)
    part = image.with_name(part_name(step.number))
    (folder / part.name).unlink(missing_ok=True)
    ours = step.is_at(place)
    if ours and is_reserved(image, step):  # it was stopped before it came
        image.unlink()
    if status(image) is not None:
        if ours and is_twice(place, image):  # it was stopped between the two
            part.unlink(missing_ok=True)
            place.unlink()
            return True
        if ours:
            raise _StaysError(f"another file has its place; it stays {step.to}", again=True)
        if is_reserved(place, step) and step.is_at(image):
            place.unlink()
        return False
    if not ours:
        gone = status(place) is None
        why = "was removed" if gone else "was changed"
        raise _StaysError(f"{step.to} {why} since" + ("" if gone else ", and stays"), again=False)
    if not image.parent.is_dir():
        raise _StaysError(
            f"its folder is gone; make it again, and undo again: it stays {step.to}", again=True
        )
    put(place, image, part, lambda _: None)
    place.unlink(missing_ok=True)
    return True


def _within(folder: Path, step: Step) -> Path:
    """The place of a picture; no link leads there."""
    place = folder / step.to
    if place.parent.is_symlink():
        raise _StaysError(f"{place.parent.name} is a link now", again=False)
    return place
