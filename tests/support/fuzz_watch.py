"""What every fuzzed reader is held to: it takes a file or raises a ``UserError``, and runs nothing.

A reader that writes as well does so in the folder ``out``, which is new for every input; nowhere
else does it rename or remove a file.
"""

import dataclasses
import functools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from fsclip_jax.errors import UserError

OUT = "out"


@dataclasses.dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        seeds: writes honest files, given a folder to work in.
        read: reads spoilt bytes, given a folder to put them into.
        runs: inputs in the tests.
    """

    seeds: Callable[[Path], list[bytes]]
    read: Callable[[Path, bytes], None]
    runs: int = 2000


class RanCodeError(BaseException):
    """A reader did what no reader does; a base exception, as readers catch all others."""


_NEVER = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen")
_NEVER += ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto")
_NEVER += ("pickle.find_class", "webbrowser.open")
_ONLY_IN_OUT = ("os.remove", "os.rename", "os.rmdir", "shutil.rmtree")
_watching: list[str] = []


def _hook(event, args):
    if not _watching:
        return
    if event in _NEVER:
        raise RanCodeError(f"{event} {args}")
    if event in _ONLY_IN_OUT:
        paths = [os.fsdecode(arg) for arg in args if isinstance(arg, str | bytes | os.PathLike)]
        # A name alone belongs to a folder that was opened before: shutil.rmtree removes so.
        if not all(path.startswith(_watching[-1]) for path in paths if os.sep in path):
            raise RanCodeError(f"{event} {args}")


sys.addaudithook(_hook)  # it cannot be removed, but does nothing unless somebody watches


def attempt(target: Target, folder: Path, data: bytes) -> bool:
    """Read spoilt bytes; whether they were taken. All that is not a UserError goes through."""
    _watching.append(str(folder / OUT))
    try:
        target.read(folder, data)
    except UserError:  # which is one line whatever it is made of
        return False
    finally:
        _watching.pop()
        shutil.rmtree(folder / OUT, ignore_errors=True)
    return True


def kept_seeds(folder: Path, files: str = "**/*") -> list[bytes]:
    """Keep what lies in ``folder/honest/KIND`` and make an input of each of these files.

    An input is a byte that says which file it is, and its content.
    """
    kept = _honest(folder, files)
    return [bytes([place]) + file.read_bytes() for place, file in enumerate(kept)]


def spoilt_folder(folder: Path, data: bytes, files: str = "**/*") -> tuple[Path, Path]:
    """Lay out the folder of that file with this content in its place; both paths.

    A byte above 127 leaves the file out.
    """
    which, kept = data[0] if data else 0, _honest(folder, files)
    file = kept[which % 128 % len(kept)]
    kind = file.relative_to(folder / "honest").parts[0]
    shutil.copytree(folder / "honest" / kind, folder / OUT / kind)
    spoilt = folder / OUT / file.relative_to(folder / "honest")
    if which < 128:
        spoilt.write_bytes(data[1:])
    else:
        spoilt.unlink()
    return folder / OUT / kind, spoilt


@functools.cache
def _honest(folder: Path, files: str) -> list[Path]:
    found = (folder / "honest").glob(files)
    # An empty file only has to be there.
    return sorted(path for path in found if path.is_file() and path.stat().st_size)
