"""Standard output that is closed, full or without a letter: the command goes on without it."""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple


class _Kept(io.FileIO):
    """An open file whose first failure is kept; what is written after it is dropped."""

    failure: OSError | None = None
    first: "Callable[[], None] | None" = None
    """Called before anything is written."""

    def write(self, data: Any) -> int:
        first, self.first = self.first, None
        if first:
            first()
        if self.failure is None:
            try:
                return super().write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


class Streams(NamedTuple):
    """What may be asked of the standard streams."""

    failure: Callable[[], OSError | None]
    """Says why standard output could not be written, if so. That its reader has left, as
    ``head`` does, is no reason."""
    hush: Callable[[], None]
    """Leaves out the first lines, unless they are written already."""


@contextmanager
def standard_streams(first: Callable[[], Sequence[str]] = tuple) -> Iterator[Streams]:
    r"""Let no failure to print end a command before its files are written.

    A letter that the encoding lacks is printed as ``\xe9``. A stream that was closed before the
    program began leads nowhere, and no file gets its number. The streams of tests and notebooks are
    left alone.

    Args:
        first: gives the lines that the error stream begins with, asked for once something else is
            about to be written to either stream.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)
    os.close(handle)
    before = sys.stdout, sys.stderr
    raw = [_kept(number, stream) for number, stream in ((1, sys.stdout), (2, sys.stderr))]
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(raw[0], sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(raw[1], sys.stderr)
    ours = sys.stdout, sys.stderr

    def failure() -> OSError | None:
        with suppress(ValueError):  # a configuration has closed it
            ours[0].flush()
        found = raw[0].failure
        return None if found is None or found.errno == errno.EPIPE else found

    def begin() -> None:
        hush()
        for line in first():
            raw[1].write(f"{line}\n".encode(errors="backslashreplace"))

    def hush() -> None:
        raw[0].first = raw[1].first = None

    raw[0].first = raw[1].first = begin
    try:
        yield Streams(failure, hush)
    finally:
        sys.stdout, sys.stderr = before
        for stream in ours:
            with suppress(ValueError):
                stream.flush()


def printer(stream: Any) -> Callable[[str], None]:
    """Return what prints a text at once.

    It raises ``BrokenPipeError`` as soon as nothing more can be written.
    """
    raw = getattr(getattr(stream, "buffer", None), "raw", None)

    def out(text: str) -> None:
        stream.write(text)
        stream.flush()
        if isinstance(raw, _Kept) and raw.failure is not None:
            raise BrokenPipeError

    return out


def _kept(number: int, stream: Any) -> _Kept:
    return _Kept(os.devnull, "w") if stream is None else _Kept(number, "w", closefd=False)


def _text(raw: _Kept, like: io.TextIOWrapper | None) -> io.TextIOWrapper:
    by_line = raw.isatty() or raw.name == 2
    encoding = like.encoding if like else "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=by_line
    )
