"""Short names of data sets, for columns, rows and folders."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath

from fsclip_jax.data.catalog import find_known
from fsclip_jax.report.names import spec_title

PUBLISHED = ("coop", "tfds", "hf")
"""Kinds of specs that name a published data set."""


def data_name(spec: str) -> str:
    """Name a data set in letters, digits, ``.``, ``-`` and ``_``; the name is never empty.

    Example:
        >>> [data_name(s) for s in ("emoji:food", "coop:caltech101@/data", "bank:banks/pets/")]
        ['food', 'caltech101', 'pets']
    """
    kind, colon, rest = spec.partition(":")
    if not colon:
        name = kind
    elif kind in ("folder", "bank"):
        name = PurePath(rest).name
    elif kind == "hf":
        name = rest.partition("@")[0].rpartition("/")[2]
    else:
        name = rest.partition("@")[0].partition("/")[0]
    # A name of dots alone would be a folder above.
    return re.sub(r"[^\w.-]+", "_", name).strip(".") or "data"


def unlike_names(specs: Sequence[str]) -> tuple[str, ...]:
    """Return short names that differ, with a number behind those that would not.

    Example:
        >>> unlike_names(["bank:a/pets", "bank:b/pets"])
        ('pets', 'pets_2')
    """
    names: list[str] = []
    for spec in specs:
        name, count = data_name(spec), 1
        taken = {used.lower() for used in names}  # folders, on systems that ignore case
        while (name if count == 1 else f"{name}_{count}").lower() in taken:
            count += 1
        names.append(name if count == 1 else f"{name}_{count}")
    return tuple(names)


def data_title(spec: str, source: str = "") -> str:
    """Return how a page calls a data set: by its title if it is a published one.

    A bank is called after the images that it was made of, its ``source``, if that is known.

    Example:
        >>> data_title("coop:food-101@data"), data_title("folder:food-101")
        ('Food-101', 'food-101')
        >>> data_title("bank:mine", "coop:caltech101@data"), data_title("bank:mine", "npz:a.npz")
        ('Caltech-101', 'mine')
    """
    if spec.startswith("bank:") and source.partition(":")[0] in (*PUBLISHED, "emoji", "folder"):
        return data_title(source)
    published = spec.partition(":")[0] in PUBLISHED
    kind, _, place = spec.partition(":")
    if kind in ("folder", "bank"):  # ``.`` has a name, too
        return Path(place).resolve().name or spec
    known = find_known(data_name(spec)) if published else None
    return known.title if known else spec_title(spec)
