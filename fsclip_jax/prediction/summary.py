"""What is said of a fit and of a finished table: lines for people, JSON for programs."""

import filecmp
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fsclip_jax import __version__
from fsclip_jax.durable import write_file
from fsclip_jax.errors import UserError, some
from fsclip_jax.json_files import read_json
from fsclip_jax.prediction.asked import Written
from fsclip_jax.prediction.classifier import Classifier, Unknown
from fsclip_jax.prediction.quality import Answers, Quality
from fsclip_jax.printable import escaped, printable, printable_tree

_SHOWN = 3  # of each list, on the terminal; the file has all
_FORMAT = "fsclip predictions"


def same_file(one: Path, other: Path) -> bool:
    """Say whether two files hold the same bytes."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def named(quality: Quality, pictures: Sequence[str], folder: Path) -> Quality:
    """Write the names of the labelled pictures for their rows, and say which are one file twice."""
    shown = [escaped(name) for name in pictures]
    doubts = (replace(one, picture=shown[int(one.picture)]) for one in quality.mislabelled)
    twice = []
    for one in quality.twice:
        first, second = int(one.picture), int(one.other)
        same = same_file(folder / pictures[first], folder / pictures[second])
        twice.append(replace(one, picture=shown[first], other=shown[second], same_file=same))
    return replace(quality, mislabelled=tuple(doubts), twice=tuple(twice))


def lines_of_fit(classifier: Classifier, quality: Quality) -> list[str]:
    """Say in a few lines how good a fit is, and what to look at in its pictures."""
    answers = quality.held_out
    if not answers.score.asked:
        lines = [
            "a single picture of each class leaves none to hold out: how good it is is unknown"
        ]
        lines[0] += f" ({classifier.method.name} is taken)"
        return lines + _lines_of_twice(quality)
    alone = quality.labelled - answers.score.asked
    lines = [
        f"labelled pictures held out in turn: {answers.score} right"
        + (f"; {alone} alone in a class could not be" if alone else "")
    ]
    if len(classifier.tried) > 1:
        each = (f"{one.method} {one.score.accuracy:.1f} %" for one in classifier.tried)
        lines.append(f"  tried: {', '.join(each)}; taken: {classifier.method.name}")
    lines += _lines_of_answers(answers)
    if quality.mislabelled:
        shown = [
            f"{one.picture} (looks like {one.predicted}, {one.probability:.2f})"
            for one in quality.mislabelled
        ]
        lines.append(f"  perhaps mislabelled: {some(shown, _SHOWN)}")
    return lines + _lines_of_twice(quality)


def _lines_of_answers(answers: Answers) -> list[str]:
    weak = [f"{one.name} {one.right} of {one.asked}" for one in answers.classes]
    weak = weak[: sum(one.right < one.asked for one in answers.classes)]
    pairs = [f"{one.label} as {one.predicted} ({one.pictures})" for one in answers.confused]
    lines = [f"  weakest classes: {some(weak, _SHOWN)}"] if weak else []
    return lines + ([f"  confused: {some(pairs, _SHOWN)}"] if pairs else [])


def _lines_of_twice(quality: Quality) -> list[str]:
    if not quality.twice:
        return []
    across = sum(one.label != one.other_label for one in quality.twice)
    shown = [
        f"{one.picture} and {one.other}" + (" (same file)" if one.same_file else "")
        for one in sorted(quality.twice, key=lambda one: one.label == one.other_label)
    ]
    said = f", {across} of them in two classes" if across else ""
    return [f"  {len(shown)} stand twice or nearly{said}: {some(shown, _SHOWN)}"]


def lines_of_table(written: Written, table: object, finished: bool) -> list[str]:
    """Say what a table holds, and what is known of its pictures otherwise.

    Args:
        finished: it was, and was added to.
    """
    told = written.told
    added = f" ({written.new} new)" if finished else ""
    empty = f", {told.empty} unknown" if told.empty else ""
    lost = f", {written.lost} unreadable" if written.lost else ""
    lines = [f"{table}: {told.lines} predictions{added}{empty}{lost}"]
    if written.also_labelled:
        shown = [f"{one.image} ({one.labelled})" for one in written.also_labelled]
        count = len(shown) + told.more
        named = some(shown, _SHOWN) if not told.more else ", ".join(shown[:_SHOWN])
        lines.append(f"  {count} stand among the labelled pictures, or nearly: {named}")
    judged = told.by_folder
    if judged is None:
        return lines
    lines.append(f"by the names of their folders: {judged.answers.score} right")
    if judged.left_empty or judged.elsewhere:
        lines.append(
            f"  unknown: {judged.left_empty} of {judged.answers.score.asked} in folders of "
            f"classes, {judged.elsewhere_empty} of {judged.elsewhere} in others"
        )
    return lines + _lines_of_answers(judged.answers)


def report_place(table: Path) -> Path:
    """Return the place of the report of a table, beside it.

    Raises:
        UserError: something else is there.

    Example:
        >>> report_place(Path("predictions.csv")).name
        'predictions.report.json'
        >>> report_place(Path("predictions.jsonl")).name
        'predictions.jsonl.report.json'
    """
    is_csv = table.suffix.lower() == ".csv"
    place = table.with_name(f"{table.stem if is_csv else table.name}.report.json")
    if place.exists():
        try:
            found = read_json(place)
            ours = (found["format"], found["table"]) == (_FORMAT, printable(table.name))
        except (OSError, ValueError, KeyError, TypeError):
            ours = False
        if not ours:
            raise UserError(
                f"{place}, where the report of {table.name} belongs, is something else: choose "
                "another --out, or remove it"
            )
    return place


def made_before(table: Path) -> dict[str, Any] | None:
    """Return what a table was made with, by its report; None where there is none that says so.

    Raises:
        UserError: see :func:`report_place`.
    """
    place = report_place(table)
    found = read_json(place).get("made_with") if place.exists() else None
    return found if isinstance(found, dict) else None


def report_of_fit(classifier: Classifier, quality: Quality, unknown: Unknown) -> dict[str, Any]:
    """Return as JSON values what a fit is and how good it is."""
    familiar = classifier.familiar if unknown == "auto" else None
    return {
        "format": _FORMAT,
        "schema": 1,
        "fsclip_version": __version__,
        "method": classifier.method.name,
        "tried": [asdict(one) for one in classifier.tried],
        "settings": classifier.fitted.choice.record,
        "temperature": classifier.temperature._asdict(),
        "unknown": {"below": unknown if familiar is None else familiar._asdict()},
        **asdict(quality),
    }


def report_of_table(written: Written) -> dict[str, Any]:
    """Return as JSON values what a table holds."""
    told = written.told
    also = [asdict(one) for one in written.also_labelled]
    return {
        "lines": told.lines,
        "unreadable": written.lost,
        "without_label": told.empty,
        "also_labelled": {"count": len(also) + told.more, "pictures": also},
        "by_folder": None if told.by_folder is None else asdict(told.by_folder),
    }


def write_report(place: Path, report: Mapping[str, Any]) -> None:
    """Write the report whole or not at all, its names printable."""
    write_file(place, json.dumps(printable_tree(dict(report)), indent=1).encode() + b"\n")


def add_to_report(table: Path, found: Mapping[str, Any]) -> None:
    """Write more into the report of a table.

    Raises:
        UserError: it is not there or is something else, or cannot be written.
    """
    place = report_place(table)
    before = read_json(place) if place.exists() else {}
    write_report(place, {**before, **found})
