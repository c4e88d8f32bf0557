"""The classes of the scenes, and whose drawings go into which split.

Classes
    Taken by rule, in the fixed order of the data set's classes: the first ``PER_HALF`` base and
    the first ``PER_HALF`` novel classes whose drawings are all solid things
    (``cutout.is_one_thing``) and which every family listed for them has drawn.

Families
    ``train`` and ``support`` scenes show the train families, ``val`` scenes the val family and
    ``test`` scenes the test families (``EMOJI_FAMILY_SPLITS``): support and query never share an
    artist. Sets of black line art are left out: on a backdrop nobody could say what is inside.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from fsclip_jax.data.emoji import open_emoji
from fsclip_jax.data.source import ImageSource
from fsclip_jax.data.splits import SPLITS, base_novel
from fsclip_jax.scenes.cutout import cut_out, is_one_thing

PER_HALF = 30
"""Base classes, and novel classes."""

LINE_ART = ("emojione-monotone", "fluent-emoji-high-contrast")
"""Sets that are left out."""


@dataclass(frozen=True)
class Drawing:
    """One drawing of a class."""

    key: str
    """The picture's key in the data set, ``SET/CODE_POINT``."""
    family: str
    """Its artist."""
    art: Image.Image
    """Cut out, mode RGBA."""


@dataclass(frozen=True)
class Thing:
    """A class of the scenes."""

    name: str
    label: int
    """Its label in the data set."""
    novel: bool
    drawings: Mapping[str, tuple[Drawing, ...]]
    """By split: ``train``, ``val``, ``test``."""


def choose_things(per_half: int = PER_HALF) -> tuple[Thing, ...]:
    """Choose the classes of the scenes: base ones first, each half in the data set's order.

    Base ones have a drawing of the val family; of novel ones none is needed.

    Example:
        >>> [thing.name for thing in choose_things(2)]
        ['admission tickets', 'rice cracker', 'fire engine', 'hamburger']
    """
    emoji = open_emoji()
    rows: dict[int, list[int]] = {}
    for index, label in enumerate(emoji.labels.tolist()):
        if emoji.keys[index].split("/")[0] not in LINE_ART:
            rows.setdefault(label, []).append(index)
    chosen: list[Thing] = []
    for half, labels in enumerate(base_novel(len(emoji.class_names))):
        found = 0
        for label in labels.tolist():
            if found == per_half:
                break
            thing = _thing(emoji, label, rows[label], novel=bool(half))
            if thing is not None:
                chosen.append(thing)
                found += 1
    return tuple(chosen)


def _thing(emoji: ImageSource, label: int, rows: list[int], *, novel: bool) -> Thing | None:
    """The class with its drawings; None if the rule leaves it out."""
    assert emoji.domains is not None
    drawings: dict[str, list[Drawing]] = {split: [] for split in SPLITS}
    for row in rows:
        art = cut_out(emoji.load(row))
        if not is_one_thing(art):
            return None
        family = emoji.domain_names[int(emoji.domains[row])]
        drawings[SPLITS[int(emoji.splits[row])]].append(Drawing(emoji.keys[row], family, art))
    if len({d.family for d in drawings["train"]}) < 4 or not drawings["test"]:
        return None
    if not novel and not drawings["val"]:
        return None
    kept = {split: tuple(found) for split, found in drawings.items()}
    return Thing(emoji.class_names[label], label, novel, kept)
