"""Features of single pictures by their content, kept on disk up to a size.

A bank holds a data set; this holds whatever pictures a program asks for one by one. It is a
convenience: where it cannot be read or written, pictures are encoded again and nothing is said.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fsclip_jax.typing import Float

MOST_BYTES = 256 << 20
"""Size of the file at which the oldest quarter is forgotten: 120,000 features of width 512."""

_TABLE = "CREATE TABLE IF NOT EXISTS features (key BLOB UNIQUE, vector BLOB)"
_AT_ONCE = 500  # keys of a query; older SQLite takes 999


@dataclass(frozen=True)
class KeptFeatures:
    """A file of feature vectors by keys, which programs may use at the same time.

    Args:
        file: made when the first vector is kept.
        most_bytes: size of the file at which the vectors kept first are forgotten.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kept = KeptFeatures(Path(folder) / "pictures.sqlite")
        ...     kept.put({b"a": np.float32([1, 0])})
        ...     {key: vector.tolist() for key, vector in kept.get([b"a", b"b"], 2).items()}
        {b'a': [1.0, 0.0]}
    """

    file: Path
    most_bytes: int = MOST_BYTES

    def get(self, keys: Sequence[bytes], dim: int) -> dict[bytes, Float[np.ndarray, " dim"]]:
        """Return the vectors of those keys that are kept with this width."""
        found: dict[bytes, np.ndarray] = {}
        if not self.file.is_file():
            return found
        with suppress(sqlite3.Error, OSError), self._open() as base:
            for low in range(0, len(keys), _AT_ONCE):
                some = keys[low : low + _AT_ONCE]
                marks = ",".join("?" * len(some))
                rows = base.execute(f"SELECT * FROM features WHERE key IN ({marks})", some)
                for key, vector in rows:
                    if isinstance(vector, bytes) and len(vector) == 4 * dim:
                        found[key] = np.frombuffer(vector, np.float32)
        return found

    def put(self, vectors: Mapping[bytes, Float[np.ndarray, " dim"]]) -> None:
        """Keep vectors; those kept first go where there would be too many."""
        rows = [(key, np.float32(vector).tobytes()) for key, vector in vectors.items()]
        with suppress(sqlite3.Error, OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as base, base:
                base.execute(_TABLE)
                base.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)
                if self._bytes(base) > self.most_bytes:
                    (count,) = base.execute("SELECT count(*) FROM features").fetchone()
                    oldest = "SELECT rowid FROM features ORDER BY rowid LIMIT ?"
                    base.execute(f"DELETE FROM features WHERE rowid IN ({oldest})", (count // 4,))

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.file, timeout=5)) as base:
            base.execute("PRAGMA trusted_schema = OFF")  # nothing in the file is run
            try:
                yield base
            except sqlite3.DatabaseError as error:
                if not isinstance(error, sqlite3.OperationalError):  # it is no such file, or spoilt
                    self.file.unlink(missing_ok=True)
                raise

    def _bytes(self, base: sqlite3.Connection) -> int:
        """Bytes in use; what was forgotten leaves room that is used again."""
        values = (base.execute(f"PRAGMA {name}").fetchone()[0] for name in _PAGES)
        count, free, size = values
        return int((count - free) * size)


_PAGES = ("page_count", "freelist_count", "page_size")
