"""Ctrl-C and SIGTERM as a request to stop at the next good moment."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], int]]:
    """Take Ctrl-C and SIGTERM as requests to stop; a second Ctrl-C interrupts at once.

    Outside the main thread signals are left alone.

    Yields a function that returns the number of the signal received, 0 if there was none.

    Example:
        >>> with stop_requests() as requested:
        ...     requested()
        0
    """
    received: list[int] = []

    def request(number: int, _frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        print("stopping: one moment, to save a checkpoint", file=sys.stderr, flush=True)

    numbers = (signal.SIGINT, signal.SIGTERM)
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, request) for number in numbers} if main else {}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
