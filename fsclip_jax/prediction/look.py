"""What is done with a table once it is written: a page to look at, pictures sorted into folders."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fsclip_jax.errors import UserError
from fsclip_jax.features.extract import default_cache
from fsclip_jax.features.kept import KeptFeatures
from fsclip_jax.prediction.classifier import answer
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
from fsclip_jax.prediction.suggest import MOST_CONSIDERED, RULE, suggest
from fsclip_jax.prediction.summary import add_to_report
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
    if asked.suggest < 0:
        raise UserError(f"--suggest is {asked.suggest}; give the number of pictures, 1 or more")
    if asked.move_to is not None and asked.link_to is not None:
        raise UserError("--move-to and --link-to are both given; leave one of them out")
    if table == STANDARD_OUTPUT and (asked.html is not None or asked.sort_to or asked.suggest):
        raise UserError(
            "--html, --move-to, --link-to and --suggest go with a table in a file, and --out is -; "
            "give --out predictions.csv"
        )
    if asked.sort_to:
        require_apart(asked.sort_to[1], images, support, f"--{asked.sort_to[0]}-to")
    return None if asked.html is None else gallery_place(asked.html, table)


def look(
    ready: PictureClassifier,
    rows: Sequence[Row],
    asked: LookConfig,
    table: Path,
    page: Path | None,
) -> tuple[list[str], Sorted]:
    """Suggest labels, write the page, then sort the pictures; return lines that tell of it.

    Raises:
        UserError: something cannot be written.
    """
    lines, done = [], Sorted()
    where = sorted_places(asked.sort_to[1]) if asked.sort_to else {}
    if asked.suggest:
        found = suggestions(ready, rows, asked.suggest, where)
        lines += lines_of_suggestions(found)
        add_to_report(table, {"suggested": {"rule": RULE, "pictures": found}})
    if page is not None:
        write_gallery(page, gallery_of(ready, rows, where))
        lines.append(f"page: {page}")
    if asked.sort_to:
        how, folder = asked.sort_to
        done = sort_pictures(rows, ready.classifier.class_names, folder, how)
        lines.append(line_of(done, folder, how))
    return lines, done


def suggestions(
    ready: PictureClassifier, rows: Sequence[Row], count: int, where: Mapping[str, Path]
) -> list[dict[str, Any]]:
    """Choose the pictures of a table whose labels would help most, with their two best classes."""
    doubtful = sorted(rows, key=lambda row: row.ranked[0][1])[:MOST_CONSIDERED]
    files = [where.get(os.path.abspath(row.image), Path(row.image)) for row in doubtful]
    features, read = encoder_of(ready).encode_files(files)
    kept = np.flatnonzero(read)
    answers = answer(ready.classifier, features[kept])
    chosen = suggest(features[kept], answers.probabilities, answers.similarity, count)
    names, found = ready.classifier.class_names, []
    for place in chosen.tolist():
        shares = answers.probabilities[place]
        best = np.argsort(-shares, kind="stable")[:2].tolist()
        classes = [[names[label], round(float(shares[label]), 4)] for label in best]
        found.append({"image": escaped(doubtful[kept[place]].image), "most_probable": classes})
    return found


def lines_of_suggestions(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the suggested pictures, a line each."""
    lines = [f"labels that would help most, {len(found)} pictures:"]
    for one in found:
        classes = ", ".join(f"{name} {share:.2f}" for name, share in one["most_probable"])
        lines.append(f"  {one['image']}: {classes}")
    return lines


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
