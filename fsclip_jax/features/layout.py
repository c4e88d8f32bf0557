"""Names and types of what a bank on disk is made of; ``docs/data.md`` describes it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FORMAT = "fsclip_bank"
FORMAT_VERSION = 1
WITHOUT_TEXT = 2
"""Format version of a bank that has no text: programs that want text refuse it by that."""
BEFORE = 3
"""Format version of a bank of features before the last projection: older programs refuse it."""
MANIFEST = "manifest.json"
TEXT_FILE = "text.safetensors"
DTYPES = {"float16": "F16", "float32": "F32"}


@dataclass(frozen=True)
class Rows:
    """The images of one shard, or of a whole bank.

    Attributes:
        features: vectors, float [V n D].
        splits: index into ``SPLITS`` of each image [n].
        domains: artist family of each image [n]; -1 where the data has no families.
        patches: vectors of the patches of view 0, float16 [n P D], if they are to be stored.
    """

    features: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    keys: Sequence[str]
    domains: np.ndarray
    patches: np.ndarray | None = None

    def part(self, low: int, high: int) -> "Rows":
        """Return the images ``low`` to ``high - 1``."""
        return Rows(
            self.features[:, low:high],
            self.labels[low:high],
            self.splits[low:high],
            self.keys[low:high],
            self.domains[low:high],
            None if self.patches is None else self.patches[low:high],
        )


def pack_strings(strings: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Lay strings end to end as UTF-8.

    Returns the bytes, uint8, and the n + 1 positions between which each string lies, int64.

    Example:
        >>> unpack_strings(*pack_strings(["a/1.png", "é"]))
        ('a/1.png', 'é')
    """
    encoded = [text.encode("utf-8", "surrogateescape") for text in strings]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def unpack_strings(data: np.ndarray, offsets: np.ndarray) -> tuple[str, ...]:
    """Undo ``pack_strings``."""
    raw = data.tobytes()
    bounds = offsets.tolist()
    pairs = itertools.pairwise(bounds)
    return tuple(raw[low:high].decode("utf-8", "surrogateescape") for low, high in pairs)


def shard_name(index: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{index:05d}.safetensors"


def partial_name(path: Path) -> Path:
    """Return the name a bank has while it is being written."""
    return path.with_name(path.name + ".partial")
