"""Class names of the published data sets, cleaned as CoOp cleans them.

==============  ==========================================================================
rule            what it does
==============  ==========================================================================
``as is``       nothing
``lower``       lower case: ``Abyssinian`` to ``abyssinian``
``year first``  ``Acura RL Sedan 2012`` to ``2012 Acura RL Sedan``
``capitals``    split before capitals: ``ApplyEyeMakeup`` to ``Apply_Eye_Makeup``
``path``        ``/a/apartment_building/outdoor`` to ``outdoor apartment_building``
``wnid``        a WordNet id to CLIP's name of the class
==============  ==========================================================================

An underscore is written as a space when the name goes into a prompt.
"""

import importlib.resources
import re
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
from jaxtyping import Int

from fsclip_jax.data.published import KnownSet
from fsclip_jax.errors import some
from fsclip_jax.printable import printable


def class_names(known: KnownSet) -> tuple[str, ...]:
    """Return the class names of a set in CoOp's order, so that base and novel halves are CoOp's.

    Of ImageNet-A and -R, whose images say which 200 classes they have, these are all 1,000; of a
    set that brings no list there are none, and the source's own order counts.

    Example:
        >>> from fsclip_jax.data.catalog import find_known
        >>> class_names(find_known("eurosat"))[:3]
        ('Annual Crop Land', 'Forest', 'Herbaceous Vegetation Land')
    """
    lines = _lines(known.names_of or known.name)
    if known.rule == "wnid":
        lines = tuple(line.partition(" ")[2] for line in lines)
    return tuple(spoken(line) for line in lines)


@cache
def wordnet_names() -> Mapping[str, str]:
    """Return CLIP's name of each of ImageNet's 1,000 WordNet ids, in the order of the labels."""
    pairs = (line.partition(" ") for line in _lines("imagenet"))
    return {wnid: name for wnid, _, name in pairs}


def clean_name(raw: str, known: KnownSet) -> str | None:
    """Clean one class name; a name that is clean already stays as it is.

    None means that CoOp leaves the class out.

    Example:
        >>> from fsclip_jax.data.catalog import find_known
        >>> clean_name("AM General Hummer SUV 2000", find_known("stanford_cars"))
        '2000 AM General Hummer SUV'
    """
    folded = raw.casefold()
    if folded in {name.casefold() for name in known.dropped}:
        return None
    for old, new in known.renames:
        if folded == old.casefold():
            return new
    match known.rule:
        case "lower":
            raw = raw.lower()
        case "year first" if re.search(r" \d{4}$", raw):
            rest, _, year = raw.rpartition(" ")
            raw = f"{year} {rest}"
        case "capitals" if "_" not in raw and " " not in raw:
            raw = "_".join(re.findall("[A-Z][^A-Z]*", raw)) or raw
        case "path" if "/" in raw:
            parts = raw.strip("/").split("/")
            raw = " ".join(reversed(parts[1:] if len(parts[0]) == 1 else parts))
        case "wnid":
            raw = wordnet_names().get(raw, raw)
    return spoken(raw)


_PREFIX = re.compile(r"(n\d{8}|\d+)([._ -]+)(?=[^\W\d_])", re.IGNORECASE)


def folder_classes(folders: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Read the names of class folders as a person would say them; and what to note of them.

    ``_`` is a space; a WordNet id of ImageNet's is its name; ids or numbers before all names
    (``001.Black_footed_Albatross``, ``n02085620-Chihuahua``) are left out. Folders that would get
    equal names so keep their own.

    Example:
        >>> folder_classes(("n02104029", "hot_dog"))
        (('Kuvasz', 'hot dog'), ())
    """
    known, notes = wordnet_names(), []
    words = [known.get(folder.lower(), "") for folder in folders]
    ids = [folder for folder in folders if re.fullmatch(r"n\d{8}", folder, re.IGNORECASE)]
    strange = [folder for folder in ids if folder.lower() not in known]
    if strange:
        notes.append(f"WordNet ids that are none of ImageNet's 1,000 stay ids: {some(strange)}")
    names = _without_prefixes([word or folder for word, folder in zip(words, folders, strict=True)])
    names = [spoken(name) or name for name in names]
    odd = [printable(folder) for folder in folders if printable(folder) != folder]
    if odd:
        notes.append(f"class folders with letters that cannot be printed: {some(odd)}")
    silent = [name for name in names if not re.search(r"[^\W_]", name)]
    if silent:
        notes.append(f"class folders without a word for the text tower: {some(silent)}")
    alike: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        alike.setdefault(same_name(name), []).append(place)
    for places in alike.values():
        if len(places) > 1:
            group = some([folders[place] for place in places])
            notes.append(f"class folders that read alike, merge them if they are one: {group}")
            if len({names[place] for place in places}) < len(places):
                for place in places:
                    names[place] = words[place] or folders[place]
    return tuple(names), tuple(notes)


def _without_prefixes(names: list[str]) -> list[str]:
    found = [_PREFIX.match(name) for name in names]
    rests = [name[match.end() :] for name, match in zip(names, found, strict=True) if match]
    if len(rests) < len(names) or len(set(map(same_name, rests))) < len(rests):
        return names
    numbers = sorted(int(match[1].lstrip("nN")) for match in found if match)
    counted = numbers in (list(range(len(names))), list(range(1, len(names) + 1)))
    marked = all("." in match[2] or match[1][0] in "nN" for match in found if match)
    return rests if counted or marked else names


def spoken(name: str) -> str:
    """Write ``_``, and all that is space, as one space; what is left is made printable.

    Example:
        >>> spoken("hot_dog")
        'hot dog'
    """
    return printable(" ".join(name.replace("_", " ").split()))


def same_name(name: str) -> str:
    """Return a spelling that is equal for names that differ in case, spaces and ``_`` only."""
    return spoken(name).casefold()


def in_published_order(raw: Sequence[str], known: KnownSet) -> list[int] | None:
    """Give the classes of another source their published labels; None if a name is unknown.

    A class that CoOp leaves out gets -1.
    """
    if not (published := class_names(known)):
        return None
    if known.rule == "wnid":
        positions = {wnid: label for label, wnid in enumerate(wordnet_names())}
        keys: list[str | None] = list(raw)
    else:
        positions = {same_name(name): label for label, name in enumerate(published)}
        spellings = dict(known.tfds.spellings) if known.tfds else {}
        cleaned = [clean_name(spellings.get(name, name), known) for name in raw]
        keys = [None if name is None else same_name(name) for name in cleaned]
    if any(key is not None and key not in positions for key in keys):
        return None
    return [-1 if key is None else positions[key] for key in keys]


def published_classes(
    labels: Int[np.ndarray, "n"], raw: Sequence[str], known: KnownSet | None
) -> tuple[Int[np.ndarray, "n"], tuple[str, ...]]:
    """Relabel the images of another source as CoOp does.

    Returns the labels, -1 for an image of a class that CoOp leaves out, and the class names. Where
    the names are not those published, both stay as they are, but for ``_`` in names.
    """
    order = in_published_order(raw, known) if known else None
    if known is None or order is None:
        return labels, tuple(spoken(name) for name in raw)
    return np.array(order, np.int32)[labels], class_names(known)


@cache
def _lines(name: str) -> tuple[str, ...]:
    file = importlib.resources.files("fsclip_jax") / "assets" / "classes" / f"{name}.txt"
    return tuple(file.read_text("utf-8").splitlines()) if file.is_file() else ()
