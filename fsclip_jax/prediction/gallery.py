"""``--html``: the pictures of a finished table on one page, beside the labelled ones like them."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from fsclip_jax import __version__
from fsclip_jax.durable import write_file
from fsclip_jax.errors import UserError
from fsclip_jax.features.progress import Progress
from fsclip_jax.prediction.formats import Row
from fsclip_jax.prediction.thumbs import edge_for, thumbnails
from fsclip_jax.printable import escaped, printable
from fsclip_jax.report.page import pieces

MOST_SHOWN = 5_000
"""Pictures of a page; of more, the surest and the least sure of every class."""

MOST_BYTES = 24_500_000
"""Bytes of a page, of which its pictures take what the words leave, each the same at most."""

_OPEN = 12  # pictures of a block that are shown before one asks for the others
_NO_PICTURE = "data:,"
_LONGEST = 80  # letters of a name
_MARK = '<meta name="generator" content="fsclip predictions">'


class Near(NamedTuple):
    """A labelled picture that looks like one on the page: its number, class, and cosine."""

    picture: int
    label: str
    similarity: float


@dataclass(frozen=True)
class Shown:
    """A picture of the page; ``second`` is the class that comes next and its probability."""

    file: Path
    name: str
    label: str
    best: str
    probability: float
    second: tuple[str, float] | None
    similarity: float
    near: tuple[Near, ...] = ()
    picture: str = ""


@dataclass(frozen=True)
class Section:
    """What was said to be of one class: how many, and those shown, surest and least sure first.

    ``label`` is empty for pictures of none of the classes.
    """

    label: str
    count: int
    surest: tuple[Shown, ...]
    least_sure: tuple[Shown, ...]

    @property
    def shown(self) -> tuple[Shown, ...]:
        """Both blocks."""
        return self.surest + self.least_sure


@dataclass(frozen=True)
class Gallery:
    """A page to be drawn.

    Attributes:
        labelled: files of the labelled pictures that are shown, by number.
        lines: what is said above all pictures; the first is the most important.
        facts: pairs of a word and what it stands for.
    """

    sections: tuple[Section, ...]
    labelled: Mapping[int, Path] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def shown(self) -> tuple[Shown, ...]:
        """Every picture, in the order of the page."""
        return tuple(one for section in self.sections for one in section.shown)

    @property
    def count(self) -> int:
        """Pictures of the table."""
        return sum(section.count for section in self.sections)


def gallery_place(given: Sequence[Path], table: Path) -> Path:
    """Return where a page goes: the place that was given, or beside the table.

    Raises:
        UserError: several are given, something else is there, or nothing has a name.

    Example:
        >>> gallery_place((), Path("birds.csv")).name
        'birds.html'
    """
    if len(given) > 1:
        raise UserError(f"--html takes one place, and {len(given)} are given")
    if not given and table.name in ("-", ""):
        raise UserError(f"--html: with --out {table} there is no place beside it; give --html PATH")
    place = given[0] if given else table.with_suffix(".html")
    if place.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--html is {place}; give a name that ends in .html")
    if place.exists() and not _is_ours(place):
        raise UserError(f"{place} is no page of predictions: give another --html, or remove it")
    return place


def _is_ours(place: Path) -> bool:
    if not place.is_file():
        return False
    with place.open("rb") as file:
        return _MARK.encode() in file.read(1000)


def sections_of(
    rows: Sequence[Row],
    class_names: Sequence[str],
    most: int = MOST_SHOWN,
    where: Mapping[str, Path] = MappingProxyType({}),
) -> tuple[Section, ...]:
    """Sort the lines of a table by their labels, unknown ones last, and choose which to show.

    Where there are more than ``most``, every class shows its share, half of them its surest and
    half its least sure.

    Args:
        where: places of pictures that were moved since.
    """
    by_label: dict[str, list[Row]] = {name: [] for name in class_names}
    for row in rows:
        by_label.setdefault(row.label, []).append(row)
    unknown = by_label.pop("", [])
    groups = [*by_label.items(), ("", unknown)]
    each = shares([len(group) for _, group in groups], most)
    below = _common([row.image for row in rows])
    return tuple(
        _section(label, group, share, (below, where))
        for (label, group), share in zip(groups, each, strict=True)
        if group or label
    )


def shares(counts: Sequence[int], most: int) -> list[int]:
    """Say how many of each group are shown, ``most`` together: as many of each, or one more.

    Example:
        >>> shares([2, 10, 10], 13), shares([2, 3], 12)
        ([2, 6, 5], [2, 3])
    """
    low, high = 0, max(counts, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        fits = sum(min(count, middle) for count in counts) <= most
        low, high = (middle, high) if fits else (low, middle - 1)
    each = [min(count, low) for count in counts]
    left = most - sum(each)
    for place, count in enumerate(counts):
        if left > 0 and count > each[place]:
            each[place] += 1
            left -= 1
    return each


def _common(images: Sequence[str]) -> str:
    """The folder that all pictures lie below, with what separates it; empty if there is none."""
    try:
        folder = os.path.commonpath([os.path.dirname(image) for image in images])
    except ValueError:
        return ""
    return os.path.join(folder, "") if folder else ""


def _section(
    label: str, rows: Sequence[Row], most: int, places: tuple[str, Mapping[str, Path]]
) -> Section:
    ordered = sorted(rows, key=lambda row: -row.ranked[0][1])
    first, last = (most + 1) // 2, len(rows) - most // 2
    surest = tuple(_shown(row, *places) for row in ordered[:first])
    least_sure = tuple(_shown(row, *places) for row in reversed(ordered[last:]))
    return Section(label, len(rows), surest, least_sure)


def _shown(row: Row, below: str, where: Mapping[str, Path]) -> Shown:
    (best, probability), *others = row.ranked[:2]
    second = (_short(others[0][0]), others[0][1]) if others else None
    name = _short(escaped(row.image.removeprefix(below)), end=True)
    place = where.get(os.path.abspath(row.image), Path(row.image))
    return Shown(place, name, row.label, _short(best), probability, second, row.similarity)


def _short(text: str, *, end: bool = False) -> str:
    text = printable(text)
    if len(text) <= _LONGEST:
        return text
    return f"…{text[1 - _LONGEST :]}" if end else f"{text[: _LONGEST - 1]}…"


def write_gallery(place: Path, gallery: Gallery, most_bytes: int = MOST_BYTES) -> None:
    """Read the small pictures and write the page, whole or not at all.

    What the words leave of the bytes is divided: a labelled picture gets a quarter of what another
    gets.

    Raises:
        UserError: it cannot be written.
    """
    shown, numbers = gallery.shown, list(gallery.labelled)
    words = _filled(gallery, [_NO_PICTURE] * len(shown)), dict.fromkeys(numbers, _NO_PICTURE)
    left = most_bytes - sum(len(piece.encode()) for piece in _page(*words))
    room = int(left / (len(shown) + len(numbers) / 4 + 1))
    with Progress(len(shown) + len(numbers), "thumbnails", "html") as progress:

        def read(files: Sequence[Path], most: int) -> Iterator[str]:
            for uri in thumbnails(files, edge_for(most), most):
                progress.advance(1)
                yield uri

        gallery = _filled(gallery, list(read([one.file for one in shown], room)))
        small = list(read(list(gallery.labelled.values()), room // 4))
    pictures = dict(zip(numbers, small, strict=True))
    page = bytearray()  # a list of its pieces would take as much again
    for piece in _page(gallery, pictures):
        page += piece.encode()
    write_file(place, bytes(page))


def _filled(gallery: Gallery, pictures: Sequence[str]) -> Gallery:
    left = iter(pictures)
    sections = tuple(
        replace(
            section,
            surest=tuple(replace(one, picture=next(left)) for one in section.surest),
            least_sure=tuple(replace(one, picture=next(left)) for one in section.least_sure),
        )
        for section in gallery.sections
    )
    return replace(gallery, sections=sections)


def _page(gallery: Gallery, labelled: Mapping[int, str]) -> Iterator[str]:
    shown = len(gallery.shown)
    known = [section for section in gallery.sections if section.label]
    values: dict[str, Any] = {
        "title": f"{gallery.count:,} pictures in {len(known)} classes",
        "mark": _MARK,
        "lines": gallery.lines,
        "sections": known,
        "unknown": next((each for each in gallery.sections if not each.label), None),
        "left_out": gallery.count - shown,
        "count": gallery.count,
        "shown": shown,
        "labelled": labelled,
        "open": _OPEN,
        "short": _short,
        "facts": (*gallery.facts, ("fsclip", __version__)),
    }
    return pieces("gallery.html.j2", values)
