"""The bundled emoji of ``docs/data.md``; ``NOTICE`` names the artists and their licences."""

import functools
import hashlib
import importlib.resources
import json
import threading
from dataclasses import dataclass
from importlib.resources.abc import Traversable

import numpy as np
from PIL import Image

from fsclip_jax.data.source import ImageSource
from fsclip_jax.data.splits import EMOJI_FAMILY_SPLITS, SPLITS
from fsclip_jax.data.templates import BARE
from fsclip_jax.errors import UserError, suggestion
from fsclip_jax.pixels import open_image

_LOCK = threading.Lock()
"""Many threads may read at once; one decodes a sheet, the others wait for it."""


def _assets() -> Traversable:
    return importlib.resources.files("fsclip_jax") / "assets" / "emoji"


@functools.cache
def _sheet(file: str) -> Image.Image:
    with _assets().joinpath(file).open("rb") as stream, open_image(stream) as image:
        return image.convert("RGB")


@dataclass(frozen=True, eq=False)
class _Cells:
    """Cuts one picture out of its sheet."""

    files: tuple[str, ...]
    places: np.ndarray
    """Sheet and position within it of every picture."""
    cell: int
    columns: int

    def __call__(self, index: int) -> Image.Image:
        sheet, position = self.places[index].tolist()
        top, left = (self.cell * part for part in divmod(position, self.columns))
        with _LOCK:
            picture = _sheet(self.files[sheet])
        return picture.crop((left, top, left + self.cell, top + self.cell))


TOPICS = {
    "activities": "Activities",
    "animals": "Animals & Nature",
    "food": "Food & Drink",
    "objects": "Objects",
    "travel": "Travel & Places",
}
"""Topics of the emoji, each a data set of its own with other classes: ``emoji:animals``."""


def open_emoji(topic: str | None = None) -> ImageSource:
    """Open the bundled emoji art.

    An image's domain is its artist family, and its split is its family's. Keys read
    ``SET/CODE_POINT``. A sheet is decoded when its first picture is asked for, and kept as long as
    the process is. Returns 6,363 images of 627 classes by 7 artist families, 64 x 64 RGB on white;
    fewer of a topic.

    Raises:
        UserError: there is no such topic.

    Example:
        >>> emoji = open_emoji()
        >>> len(emoji), len(emoji.class_names), emoji.load(0).size
        (6363, 627, (64, 64))
    """
    if topic is not None and topic not in TOPICS:
        raise UserError(
            f"the emoji have no topic {topic!r}; they have {', '.join(TOPICS)}"
            + suggestion(topic, TOPICS)
        )
    text = _assets().joinpath("emoji.json").read_text("utf-8")
    index = json.loads(text)
    sets, classes = index["sets"], index["classes"]
    if topic is not None:
        classes = [entry for entry in classes if entry["group"] == TOPICS[topic]]
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

    files = tuple(entry["file"] for entry in sets)
    return ImageSource(
        spec="emoji" if topic is None else f"emoji:{topic}",
        version=hashlib.sha256((text + (topic or "")).encode()).hexdigest()[:16],
        class_names=tuple(entry["name"] for entry in classes),
        labels=np.array([label for label, _, _ in records], np.int32),
        keys=tuple(
            f"{sets[sheet]['name']}/{classes[label]['code_point']}" for label, sheet, _ in records
        ),
        splits=split_of_family[domains].astype(np.int8),
        domains=domains,
        domain_names=families,
        templates=BARE,
        load=_Cells(files, np.array([(s, c) for _, s, c in records], np.int32), cell, columns),
    )
