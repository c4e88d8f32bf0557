"""The model card that lies beside everything that is exported or saved."""

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from fsclip_jax.durable import sha256_file, write_file
from fsclip_jax.errors import UserError
from fsclip_jax.report.markdown import code, plain
from fsclip_jax.report.rows import read_report
from fsclip_jax.report.tables import metric_of, number

CARD = "README.md"
"""What the card is called: what a person, and the Hugging Face hub, looks for first."""

MOST_CLASSES = 200
"""Classes that a card lists one by one."""


class HeldOutFigures(NamedTuple):
    """What pictures that were held out in turn say of a classifier, in percent."""

    right: int
    asked: int
    accuracy: float
    low: float
    high: float
    classes: Sequence[tuple[str, int, int]]
    """Name, right, asked; the weakest first."""


class Card(NamedTuple):
    """What a card says."""

    title: str
    purpose: str
    """What the files are, in a sentence or two."""
    facts: Sequence[tuple[str, Any]]
    """How they were made, name and value."""
    use: str
    """How they are used, Markdown."""
    method: str
    backbone: str | None
    """Name on the hub of the CLIP, if it is from there."""
    licences: Sequence[str]
    """Of all that went into it, in a sentence each."""
    task: str = "image-classification"
    """As the hub calls it."""
    accuracy: Mapping[str, Any] | None = None
    """From ``accuracy_of``."""
    held_out: HeldOutFigures | None = None


def sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of a folder by its name, in the order of the names."""
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


def write_card(folder: Path, card: Card) -> list[str]:
    """Write the Markdown page into a folder that holds all else; return the names of all files."""
    import jinja2

    # Markdown and not HTML: what a value has of markup is made literal by `cell` and `code`.
    pages = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    pages.filters |= {"cell": plain, "code": code}
    text = (resources.files("fsclip_jax") / "report" / "pages" / "card.md.j2").read_text("utf-8")
    facts = [(name, value) for name, value in card.facts if value not in (None, "", {})]
    page = pages.from_string(text).render(
        **{**card._asdict(), "facts": facts}, most=MOST_CLASSES, sums=sums(folder)
    )
    page = re.sub(r"\n{3,}", "\n\n", page).rstrip() + "\n"
    page = f"---\n{front_matter(card)}---\n{page}"
    write_file(folder / CARD, page.encode("utf-8", "replace"))
    return sorted(path.name for path in folder.iterdir())


def front_matter(card: Card) -> str:
    """Return what the hub files a card under, in YAML.

    Example:
        >>> print(front_matter(Card("t", "p", [], "", "gda", "openai/clip-vit-base-patch32", [])))
        base_model: openai/clip-vit-base-patch32
        library_name: fsclip_jax
        metrics:
        - accuracy
        pipeline_tag: image-classification
        tags:
        - few-shot
        - clip
        - jax
        - gda
        <BLANKLINE>
    """
    from huggingface_hub import EvalResult, ModelCardData

    results = None
    if held := card.held_out:
        result = EvalResult(
            task_type=card.task,
            dataset_type="labelled-pictures",
            dataset_name="its own labelled pictures, held out in turn",
            metric_type="accuracy",
            metric_name="held-out accuracy, percent",
            metric_value=held.accuracy,
            metric_args={"pictures": held.asked, "low": held.low, "high": held.high},
        )
        results = [result]
    data = ModelCardData(
        base_model=card.backbone,
        eval_results=results,
        library_name="fsclip_jax",
        metrics=["accuracy"],
        model_name=card.method if results else None,  # which goes with the results alone
        pipeline_tag=card.task,
        tags=["few-shot", "clip", "jax", card.method],
    )
    lines = data.to_yaml()
    return f"{lines}\n"


def accuracy_of(place: Path | None, method: str) -> Mapping[str, Any] | None:
    """Read what ``fsclip eval`` measured of a method, if it left a report in the workdir.

    That is ``command``, ``rows`` and ``warnings``; None where there is no report of the method.
    """
    if place is None or not (place / "report.json").is_file():
        return None
    try:
        report = read_report(place)
    except UserError:  # a report of another version is no reason not to export
        return None
    accuracy = metric_of(report.rows)
    rows = [
        {"shots": row.shots, "split": row.split, "shown": number(row, accuracy)}
        for row in report.rows
        if row.method == method
    ]
    warnings = [line for line in report.warning if method in line]
    return {"command": report.command, "rows": rows, "warnings": warnings} if rows else None
