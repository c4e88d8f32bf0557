"""The model card that lies beside everything that is exported."""

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from fsclip_jax.clip.published import KNOWN
from fsclip_jax.data.catalog import find_builder, find_known
from fsclip_jax.durable import sha256_file, write_file
from fsclip_jax.errors import UserError
from fsclip_jax.report.markdown import code, plain

CARD = "README.md"
"""What the card is called: what a person, and the Hugging Face hub, looks for first."""


class Card(NamedTuple):
    """What a card says."""

    title: str
    purpose: str
    """What the files are, in a sentence or two."""
    facts: Sequence[tuple[str, Any]]
    """How they were made, name and value."""
    use: str
    """How they are used, Markdown."""
    backbone: str | None
    """The CLIP, as it was asked for; None if unknown."""
    data: Sequence[str]
    """Specs of all data that went into it."""
    accuracy: Mapping[str, Any] | None = None
    """From ``accuracy_of``."""


def sums(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file of a folder by its name, in the order of the names."""
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


def write_card(folder: Path, card: Card) -> list[str]:
    """Write the Markdown page into a folder that holds all else; return the names of all files."""
    import jinja2

    # Markdown and not HTML: what a value has of markup is made literal by `cell` and `code`.
    pages = jinja2.Environment(autoescape=False, undefined=jinja2.StrictUndefined)
    pages.filters |= {"cell": plain, "code": code}
    text = (resources.files("fsclip_jax") / "export" / "card.md.j2").read_text("utf-8")
    facts = [(name, value) for name, value in card.facts if value not in (None, "", {})]
    page = pages.from_string(text).render(
        **{**card._asdict(), "facts": facts},
        licences=[licence_of_backbone(card.backbone), *map(licence_of_data, card.data)],
        sums=sums(folder),
    )
    page = re.sub(r"\n{3,}", "\n\n", page).rstrip() + "\n"
    write_file(folder / CARD, page.encode("utf-8", "replace"))
    return sorted(path.name for path in folder.iterdir())


def licence_of_backbone(spec: str | None) -> str:
    """Say under which licence the weights of a CLIP are.

    Example:
        >>> licence_of_backbone("openai/clip-vit-base-patch32")
        'Backbone openai/clip-vit-base-patch32: MIT, as its repository states it.'
    """
    if spec == "mini":
        return (
            "Backbone mini: Apache-2.0 like fsclip_jax, which trained it on open icon sets and "
            "emoji art; `fsclip_jax/assets/mini/SOURCES.csv` lists these and their licences."
        )
    for model in KNOWN:
        if spec is not None and spec.split("@")[0] == model.id:
            return f"Backbone {spec}: {model.licence}, as its repository states it."
    return f"Backbone {spec or 'unknown'}: see where its weights are from."


def licence_of_data(spec: str) -> str:
    """Say whose data it is, and where its terms are.

    Example:
        >>> licence_of_data("folder:photos")
        'Data folder:photos: your own; who may use it you know best.'
    """
    kind, _, rest = spec.partition(":")
    name = rest.partition("@")[0]
    known = {"coop": find_known, "hf": find_known, "tfds": find_builder}.get(kind, lambda _: None)
    if kind == "emoji":
        return (
            "Data emoji: art of eleven emoji sets under Apache-2.0, CC-BY-4.0 and MIT; NOTICE of "
            "fsclip_jax names the authors."
        )
    if found := known(name):
        return f"Data {spec}: {found.title} ({found.citation}); its terms are at {found.url}."
    if kind == "folder":
        return f"Data {spec}: your own; who may use it you know best."
    return f"Data {spec}: see where it is from."


def accuracy_of(place: Path | None, method: str) -> Mapping[str, Any] | None:
    """Read what ``fsclip eval`` measured of a method, if it left a report in the workdir.

    That is ``command``, ``rows`` and ``warnings``; None where there is no report of the method.
    """
    from fsclip_jax.report.rows import read_report
    from fsclip_jax.report.tables import metric_of, number

    if place is None or not (place / "report.json").is_file():
        return None
    try:
        report = read_report(place)
    except UserError:  # a report of another version is no reason not to export
        return None
    accuracy = metric_of(report.rows)
    rows = [
        {"shots": row.shots, "split": row.split, "shown": number(row, accuracy, digits=1)}
        for row in report.rows
        if row.method == method
    ]
    warnings = [line for line in report.warning if method in line]
    return {"command": report.command, "rows": rows, "warnings": warnings} if rows else None
