"""From what the user types after ``--data`` to a source of images."""

from pathlib import Path

from fsclip_jax.data.coop import open_coop
from fsclip_jax.data.emoji import open_emoji
from fsclip_jax.data.folder import open_folder
from fsclip_jax.data.hf import open_hf
from fsclip_jax.data.source import ImageSource
from fsclip_jax.data.tfds import open_tfds
from fsclip_jax.errors import UserError, suggestion

KINDS = (
    "emoji[:TOPIC]",
    "folder:DIR",
    "coop:NAME@ROOT",
    "tfds:NAME[/CONFIG]",
    "hf:NAME",
    "bank:DIR",
)
"""What ``--data`` accepts. A ``bank`` holds features, no images: ``features.store`` opens it."""


def open_source(spec: str) -> ImageSource:
    """Open the images that a data spec names, in one of the spellings of ``KINDS``.

    ``@SPLIT.json`` may follow ``tfds:`` (CoOp's split), and ``@CONFIG`` may follow ``hf:``.

    Raises:
        UserError: the kind is unknown, or is ``bank`` where images are needed, or the data is
            not as expected.

    Example:
        >>> open_source("emoji").class_names[:2]
        ('scorpion', 'admission tickets')
    """
    kind, colon, rest = spec.partition(":")
    name, at, place = rest.partition("@")
    match kind, bool(colon), bool(rest):
        case "emoji", False, _:
            return open_emoji()
        case "emoji", True, True:
            return open_emoji(rest)
        case "folder", True, True:
            return open_folder(rest)
        case "coop", True, True if name and place:
            return open_coop(name, place)
        case "coop", True, _:
            raise UserError(
                f"{spec}: write coop:NAME@ROOT, where ROOT is the folder that holds the data sets; "
                "`fsclip datasets` lists the names"
            )
        case "tfds", True, True if name and bool(at) == bool(place):
            return open_tfds(name, place)
        case "hf", True, True if name and bool(at) == bool(place):
            return open_hf(name, place)
        case "bank", True, True:
            raise UserError(
                f"{spec}: a bank holds features, but images are needed here; give "
                + ", ".join(KINDS[:-1])
            )
    accepted = "accepted are " + ", ".join(KINDS)
    if Path(spec).is_dir():
        raise UserError(f"unknown data {spec!r}; {accepted}; did you mean folder:{spec}?")
    hint = suggestion(kind, [name.partition(":")[0] for name in KINDS])
    raise UserError(f"unknown data {spec!r}; {accepted}{hint}")
