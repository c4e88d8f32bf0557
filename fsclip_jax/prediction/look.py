"""What is done with a table once it is written: a page to look at, pictures sorted into folders."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fsclip_jax.errors import UserError
from fsclip_jax.features.extract import default_cache
from fsclip_jax.features.kept import KeptFeatures
from fsclip_jax.prediction.config import LookConfig
from fsclip_jax.prediction.encoder import Encoder
from fsclip_jax.prediction.formats import STANDARD_OUTPUT, Row
from fsclip_jax.prediction.gallery import (
    Gallery,
    Near,
    Section,
    gallery_place,
    sections_of,
    write_gallery,
)
from fsclip_jax.prediction.run import PictureClassifier
from fsclip_jax.prediction.shots import neighbours
from fsclip_jax.prediction.sorting import (
    Sorted,
    line_of,
    require_apart,
    sort_pictures,
    sorted_places,
)
from fsclip_jax.printable import escaped

_NEAR = 3
"""Labelled pictures beside each picture of a page."""


def encoder_of(ready: PictureClassifier) -> Encoder:
    """Return the CLIP of a classifier, with the features that are kept on disk."""
    return Encoder(ready.backbone, KeptFeatures(default_cache() / "pictures.sqlite"))


def require_look(
    asked: LookConfig, table: Path, images: Sequence[Path], support: Path
) -> Path | None:
    """Refuse what cannot be done with a table, before any work; return where a page goes.

    Raises:
        UserError: see ``gallery_place`` and ``require_apart``; or the table is printed.
    """
    if asked.move_to is not None and asked.link_to is not None:
        raise UserError("--move-to and --link-to are both given; leave one of them out")
    if table == STANDARD_OUTPUT and (asked.html is not None or asked.sort_to):
        raise UserError(
            "--html, --move-to and --link-to go with a table in a file, and --out is -; give --out "
            "predictions.csv"
        )
    if asked.sort_to:
        require_apart(asked.sort_to[1], images, support, f"--{asked.sort_to[0]}-to")
    return None if asked.html is None else gallery_place(asked.html, table)


def look(
    ready: PictureClassifier, rows: Sequence[Row], asked: LookConfig, page: Path | None
) -> tuple[list[str], Sorted]:
    """Write the page, then sort the pictures; return lines that tell of it.

    Raises:
        UserError: something cannot be written.
    """
    lines, done = [], Sorted()
    if page is not None:
        where = sorted_places(asked.sort_to[1]) if asked.sort_to else {}
        write_gallery(page, gallery_of(ready, rows, where))
        lines.append(f"page: {page}")
    if asked.sort_to:
        how, folder = asked.sort_to
        done = sort_pictures(rows, ready.classifier.class_names, folder, how)
        lines.append(line_of(done, folder, how))
    return lines, done


def gallery_of(ready: PictureClassifier, rows: Sequence[Row], where: Mapping[str, Path]) -> Gallery:
    """Choose the pictures of a page, and find the labelled ones that look most like each."""
    sections = sections_of(rows, ready.classifier.class_names, where=where)
    files = [one.file for section in sections for one in section.shown]
    features, read = encoder_of(ready).encode_files(files)
    names, shots = ready.classifier.class_names, ready.classifier.labelled.shots
    cosines, slots = neighbours(shots, features, _NEAR)
    near = [
        tuple(
            Near(int(shots.rows[slot]), names[slot // shots.mask.shape[1]], float(cosine))
            for slot, cosine in zip(*pair, strict=True)
        )
        if there
        else ()
        for there, *pair in zip(read.tolist(), slots.tolist(), cosines.tolist(), strict=True)
    ]
    left = iter(near)
    beside = tuple(_beside(section, [next(left) for _ in section.shown]) for section in sections)
    numbers = sorted({each.picture for one in near for each in one})
    labelled = {number: ready.folder / ready.pictures[number] for number in numbers}
    return Gallery(beside, labelled, _lines(ready), _facts(ready))


def _beside(section: Section, near: Sequence[tuple[Near, ...]]) -> Section:
    shown = [replace(one, near=each) for one, each in zip(section.shown, near, strict=True)]
    half = len(section.surest)
    return replace(section, surest=tuple(shown[:half]), least_sure=tuple(shown[half:]))


def _lines(ready: PictureClassifier) -> tuple[str, ...]:
    score = ready.quality.held_out.score
    if not score.asked:
        return ("How good it is is unknown: a single picture of each class leaves none to ask.",)
    return (f"Of labelled pictures held out in turn, {score} are right.",)


def _facts(ready: PictureClassifier) -> tuple[tuple[str, str], ...]:
    return (
        ("classifier", ready.describe()),
        ("labelled pictures", escaped(str(ready.folder))),
    )
