"""What a long run has done so far, kept until its result is written."""

import copy
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from fsclip_jax.durable import sha256_file, storage_errors, write_file
from fsclip_jax.pixels import require_regular

_MADE_WITH = "made_with.json"


class Interim:
    """A folder of the parts of a run, for the run that goes on where this one was stopped.

    Whoever opens it must be its only writer (see ``durable.only_writer``).

    Args:
        made_with: all that the parts depend on, JSON values. Parts that were made with anything
            else are thrown away.
        say: told in a line what is there already, or thrown away.
        clear: called before anything is begun anew: removes what another run left elsewhere.

    Raises:
        UserError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     interim = Interim(Path(folder) / ".interim", {"seed": 0})
        ...     interim.value("sum", lambda: 1 + 1)
        ...     again = Interim(Path(folder) / ".interim", {"seed": 0})
        ...     again.value("sum", lambda: "is not asked")
        2
        going on: 1 parts of an earlier run are there
        2
    """

    def __init__(
        self,
        folder: Path,
        made_with: Mapping[str, Any],
        say: Callable[[str], None] = print,
        clear: Callable[[], None] = lambda: None,
    ) -> None:
        self._folder, self._prefix = folder, ""
        wanted = json.dumps(made_with, sort_keys=True).encode()
        with storage_errors(folder):
            found = _read(folder / _MADE_WITH)
            if found != wanted:
                if found is not None:
                    say(f"{folder} is of other inputs or settings: beginning again")
                if folder.is_dir():
                    shutil.rmtree(folder)
                clear()  # a kill here leaves no mark, and the next run clears again
            folder.mkdir(parents=True, exist_ok=True)
        if found != wanted:
            write_file(folder / _MADE_WITH, wanted)
        elif count := len(list(folder.glob("*.part"))):
            say(f"going on: {count} parts of an earlier run are there")

    def arrays(
        self, name: str, make: Callable[[], Mapping[str, np.ndarray]]
    ) -> dict[str, np.ndarray]:
        """Return arrays that were kept under a name, or make and keep them."""
        file = self._file(name)
        with suppress(SafetensorError):  # a disk may fail: then it is made again
            if (found := _read(file)) is not None:
                return load(found)
        made = {key: np.ascontiguousarray(array) for key, array in make().items()}
        write_file(file, save(made))
        return made

    def value(self, name: str, make: Callable[[], Any]) -> Any:
        """Return a JSON value that was kept under a name, or make and keep it."""
        file = self._file(name)
        with suppress(ValueError):
            if (found := _read(file)) is not None:
                return json.loads(found)
        made = json.dumps(make()).encode()
        write_file(file, made)
        return json.loads(made)

    def within(self, prefix: str) -> "Interim":
        """Return the same parts under names that begin with a prefix."""
        other = copy.copy(self)
        other._prefix = f"{self._prefix}{prefix} "
        return other

    def finish(self) -> None:
        """Remove the parts: the result is written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, name: str) -> Path:
        # A name may hold what no file's name can.
        return (
            self._folder / f"{hashlib.sha256((self._prefix + name).encode()).hexdigest()[:32]}.part"
        )


def _read(file: Path) -> bytes | None:
    try:
        require_regular(file)
        return file.read_bytes()
    except OSError:
        return None


def content_sum(files: Iterable[Path]) -> str:
    """Sum up what files hold, in their order; one that cannot be read counts as empty.

    Example:
        >>> content_sum([Path("nowhere")]) == content_sum([])
        False
    """
    total = hashlib.sha256()
    for file in files:
        digest = hashlib.sha256().hexdigest()
        with suppress(OSError):
            require_regular(file)
            digest = sha256_file(file)
        total.update(bytes.fromhex(digest))
    return total.hexdigest()
