"""The bundled emoji: 627 things, each drawn by several artists.

``scripts/build_emoji.py`` makes the files, ``docs/data.md`` describes them, and ``NOTICE`` names
the artists and their licences.
"""

import functools
import hashlib
import importlib.resources
import json
import threading

import numpy as np
from PIL import Image

from fsclip_jax.data.source import ImageSource
from fsclip_jax.data.splits import EMOJI_FAMILY_SPLITS, SPLITS
from fsclip_jax.data.templates import BARE


def open_emoji() -> ImageSource:
    """Open the bundled emoji art.

    An image's domain is its artist family, and its split is its family's. Keys read
    ``SET/CODE_POINT``. A sheet is decoded when its first picture is asked for, and kept as long
    as the source is.

    Returns:
        6,363 images of 627 classes by 7 artist families, 64 x 64 RGB on white.

    Example:
        >>> emoji = open_emoji()
        >>> len(emoji), len(emoji.class_names), emoji.load(0).size
        (6363, 627, (64, 64))
    """
    folder = importlib.resources.files("fsclip_jax") / "assets" / "emoji"
    text = folder.joinpath("emoji.json").read_text("utf-8")
    index = json.loads(text)
    sets, classes = index["sets"], index["classes"]
    cell, columns = index["cell"], index["columns"]
    # One record per picture: class, set, cell within the sheet of the set.
    records = [
        (label, sheet, position)
        for label, entry in enumerate(classes)
        for sheet, position in enumerate(entry["cells"])
        if position is not None
    ]
    families = tuple(dict.fromkeys(entry["family"] for entry in sets))
    family_of_set = np.array([families.index(entry["family"]) for entry in sets], np.int32)
    split_of_family = np.array([SPLITS.index(EMOJI_FAMILY_SPLITS[name]) for name in families])
    domains = family_of_set[[sheet for _, sheet, _ in records]]

    # Many threads may read at once; one decodes a sheet, the others wait for it.
    lock = threading.Lock()

    @functools.cache
    def decode(sheet: int) -> Image.Image:
        with folder.joinpath(sets[sheet]["file"]).open("rb") as file, Image.open(file) as image:
            return image.convert("RGB")

    def load(i: int) -> Image.Image:
        _, sheet, position = records[i]
        top, left = (cell * part for part in divmod(position, columns))
        with lock:
            picture = decode(sheet)
        return picture.crop((left, top, left + cell, top + cell))

    return ImageSource(
        spec="emoji",
        version=hashlib.sha256(text.encode()).hexdigest()[:16],
        class_names=tuple(entry["name"] for entry in classes),
        labels=np.array([label for label, _, _ in records], np.int32),
        keys=tuple(
            f"{sets[sheet]['name']}/{classes[label]['code_point']}" for label, sheet, _ in records
        ),
        splits=split_of_family[domains].astype(np.int8),
        domains=domains,
        domain_names=families,
        templates=BARE,
        load=load,
    )
