"""Ctrl-C, SIGTERM and SIGHUP: none is lost, a second one acts at once."""

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

_NUMBERS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]

_EVERY, _GRACE = 0.01, 1.0  # seconds between reminders; seconds from the second request to the end


class Stopped(KeyboardInterrupt):
    """The user asked for a stop; `number` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Stops:
    """The handler of the signals that ask for a stop, and what it has received.

    A signal raises `Stopped` wherever the program is, but for the import of somebody else's module:
    NumPy's and JAX's print tracebacks then, or crash. Python loses what is raised in a finaliser, a
    weak reference's callback or C++ that calls Python, as JAX does. A thread reminds the program
    until the exception is seen on its way out.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self._held = True
        self.patient = False
        """The work asks for itself and stops in good order: the first signal raises nothing."""

    @property
    def number(self) -> int:
        """The signal that asked first, 0 if none did."""
        return self.received[0] if self.received else 0

    def listen(self) -> None:
        """Raise from now on, and at once if there was a signal before."""
        self._held = False
        self.again()

    def hold(self) -> None:
        """Raise no more: the work is over, and what is left is to say so."""
        self._held = True

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Take a signal."""
        self.received.append(number)
        if self.patient and len(self.received) == 1:
            # Not by `print`: the signal may have come in the middle of one.
            os.write(2, b"stopping: one moment, to save a checkpoint\n")
        self._raise(frame)

    def again(self, _: int = 0, frame: FrameType | None = None) -> None:
        """Raise once more, unless what was raised is on its way: clearing up may take a while."""
        if not _on_its_way(sys.exception()):
            self._raise(frame)

    def _raise(self, frame: FrameType | None) -> None:
        enough = len(self.received) > self.patient
        if enough and not self._held and not _importing(frame):
            raise Stopped(self.number)


def _importing(frame: FrameType | None) -> bool:
    """Whether our code waits for the import of somebody else's module."""
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name == "__main__" or name.startswith("fsclip_jax"):
            return False
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _on_its_way(error: BaseException | None) -> bool:
    for _ in range(50):  # contexts may form a circle
        if error is None or isinstance(error, Stopped):
            break
        error = error.__context__
    return isinstance(error, Stopped)


@contextmanager
def stopping() -> Iterator[Stops]:
    """Take the signals that ask for a stop; whoever ignores one, as `nohup` does, goes on doing so.

    Outside the main thread signals are left alone.

    Example:
        >>> with stopping() as stops:
        ...     stops.number
        0
    """
    stops = Stops()
    if threading.current_thread() is not threading.main_thread():
        yield stops
        return
    before: dict[int, Any] = {}
    woken: int | None = None
    hook = sys.unraisablehook
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        for number in _NUMBERS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                before[number] = signal.signal(number, stops)
        if hasattr(signal, "SIGURG"):  # not on Windows; nobody else uses it, and it is ignored
            before[signal.SIGURG] = signal.signal(signal.SIGURG, stops.again)
            woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            arguments = (reading, threading.get_ident())
            threading.Thread(target=_watch, args=arguments, daemon=True).start()
        sys.unraisablehook = lambda lost: None if stops.received else hook(lost)
        yield stops
    finally:
        sys.unraisablehook = hook
        for number, handler in before.items():
            signal.signal(number, handler)
        if woken is not None:
            signal.set_wakeup_fd(woken)
        os.close(writing)  # ends the thread


def ignore_stops() -> None:
    """Take no more signals that ask for a stop."""
    for number in _NUMBERS:
        signal.signal(number, signal.SIG_IGN)


def leave(code: int) -> NoReturn:
    """End the process as it is: what a stop left half begun would only complain."""
    for path in Path("/proc/self/task").glob("*/children"):  # Linux
        with suppress(OSError):
            for child in path.read_text().split():
                # A worker that has only begun would report that its parent is gone.
                if b"multiprocessing.spawn" in Path("/proc", child, "cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
    os._exit(code)


def _watch(reading: int, main: int) -> None:
    """See every signal as it arrives, be the main thread in the middle of a compile or not."""
    asked: list[int] = []
    while True:
        wait = (None, _EVERY, _GRACE)[min(len(asked), 2)]
        if select.select([reading], [], [], wait)[0]:
            seen = os.read(reading, 64)
            if not seen:
                break
            asked += [number for number in seen if number in _NUMBERS]
        elif len(asked) == 1:
            signal.pthread_kill(main, signal.SIGURG)
        else:
            os.write(2, b"fsclip: stopped\n")
            leave(128 + asked[0])
    os.close(reading)


@contextmanager
def stop_requests() -> Iterator[Callable[[], int]]:
    """Let the work ask whether to stop, at moments that suit it; a second signal acts at once.

    Yields a function that returns the number of the signal received, 0 if there was none.

    Example:
        >>> with stop_requests() as requested:
        ...     requested()
        0
    """
    stops = signal.getsignal(signal.SIGINT)
    if not isinstance(stops, Stops):
        with stopping() as stops:
            stops.listen()
            stops.patient = True
            yield lambda: stops.number
        return
    stops.patient = True
    try:
        yield lambda: stops.number
    finally:
        stops.patient = stops.number > 0  # it has stopped: nobody is to be reminded
