"""Where compiled programs are kept from one run to the next; JAX itself keeps and finds them."""

import contextlib
import hashlib
import os
import platform
import shutil
import stat
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path

from fsclip_jax.errors import UserError

FLAG = "--compile-cache"
"""What every command takes, before or behind its own flags: a folder, or ``off``."""

VARIABLE = "FSCLIP_COMPILE_CACHE"
"""Says the same for all runs; the flag wins."""

MOST_BYTES, MOST_FILES = 2**30, 20_000
"""What may be in the folder; above, it is emptied by half."""

LEAST_FREE = 2**26
"""Bytes free on the disk, below which nothing is kept."""


def take_flag(args: Sequence[str]) -> tuple[list[str], str | None]:
    """Separate the words of the command from the shared flag; None where the flag is not there.

    Raises:
        UserError: the flag names nothing.

    Example:
        >>> take_flag(["eval", "--compile-cache", "off", "--seeds", "3"])
        (['eval', '--seeds', '3'], 'off')
    """
    others, given, words = [], None, iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if name.replace("_", "-") != FLAG:
            others.append(word)
            continue
        given = value if equals else next(words, "")
        if not given or given.startswith("--"):
            raise UserError(f"{FLAG} names no folder: give it a folder, or off")
    return others, given


def default_folder() -> Path:
    """Return the folder used when nobody says otherwise, in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "fsclip_jax" / "compiled"


def keep_compiled(given: str | None) -> Path | None:
    """Let JAX keep what it compiles in a folder, and look there before it compiles.

    What cannot be kept costs time and nothing else: one line on the error stream says so. JAX is
    not imported here; if it is not loaded yet it reads the settings from the environment, as the
    child processes of the run do.

    ``given`` is a folder or ``off``; None for ``$FSCLIP_COMPILE_CACHE``, else JAX's own
    ``$JAX_COMPILATION_CACHE_DIR`` and nothing done here, else the user's cache. None is returned
    where nothing is kept or JAX's own variable rules.
    """
    given = given or os.environ.get(VARIABLE)
    if given == "off":
        _set("jax_enable_compilation_cache", False)
        return None
    if given is None and os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return None
    try:
        folder = (default_folder() if given is None else Path(given).expanduser()) / _processor()
        problem = _problem(folder)
    except (OSError, RuntimeError) as error:  # the latter: there is no home
        problem = str(error)
    if problem:
        print(
            f"fsclip: compiled programs are not kept ({problem}); "
            f"{FLAG} DIR keeps them elsewhere, {FLAG} off does without",
            file=sys.stderr,
        )
        _set("jax_enable_compilation_cache", False)
        return None
    _make_room(folder)
    # A disk that fills up later, and what a killed run left half written, cost a compile.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    _set("jax_enable_compilation_cache", True)
    _set("jax_compilation_cache_dir", str(folder))
    # Everything: a run compiles some hundred small programs, which together take longest.
    _set("jax_persistent_cache_min_compile_time_secs", 0.0)
    _set("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def _set(name: str, value: str | float | bool) -> None:
    os.environ[name.upper()] = str(int(value)) if isinstance(value, bool) else str(value)
    if "jax" in sys.modules:
        sys.modules["jax"].config.update(name, value)


def _processor() -> str:
    """A name for this kind of processor: code for another may crash, and homes are shared."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        kind = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        kind = platform.processor()
    digest = hashlib.sha256(" ".join(sorted(kind.split())).encode()).hexdigest()
    return f"{platform.machine() or 'cpu'}-{digest[:12]}"


def _problem(folder: Path) -> str | None:
    """Say why nothing can be kept there, if so; the folder is made on the way."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.stat()
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    # What is found there is run.
    if found.st_mode & stat.S_IWOTH or user not in (0, found.st_uid):
        return f"others may write to {folder}"
    with tempfile.TemporaryFile(dir=folder):
        pass
    free = shutil.disk_usage(folder).free
    return f"{folder} has {free >> 20} MB free" if free < LEAST_FREE else None


def _make_room(folder: Path) -> None:
    """Remove what was not used for longest, down to half of what may be there at most."""
    with contextlib.suppress(OSError):  # another run may be at it
        with os.scandir(folder) as entries:
            files = [(entry.stat(), entry.path) for entry in entries if entry.is_file()]
        count, size = len(files), sum(found.st_size for found, _ in files)
        if count <= MOST_FILES and size <= MOST_BYTES:
            return
        files.sort(key=lambda file: max(file[0].st_atime, file[0].st_mtime))
        for found, path in files:
            if count <= MOST_FILES // 2 and size <= MOST_BYTES // 2:
                return
            os.unlink(path)
            count, size = count - 1, size - found.st_size
