"""How far a long job is: a bar on a terminal, one line that moves in a notebook, else a few."""

import sys
import time
from collections import deque
from typing import Any, SupportsFloat

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichProgress

from fsclip_jax.printable import printable

_WIDE = 120  # columns of a terminal that has room for a bar
_WINDOW = 20.0  # seconds that count as lately


class Progress:
    """Count units of work and show rate and time left.

    Args:
        unit: what is counted, in the plural: ``images``, ``steps``.
        start: units done before, by the run that is being continued.
        every: seconds between two plain lines.
        stream: text stream to write to; the error stream by default.

    Example:
        >>> import sys
        >>> with Progress(2, "steps", "train", stream=sys.stdout) as progress:
        ...     progress.advance(2, loss=0.5)  # doctest: +ELLIPSIS
        train 2/2 steps, ... steps/s, loss 0.500
    """

    def __init__(
        self,
        total: int,
        unit: str,
        label: str = "",
        *,
        start: int = 0,
        every: float | int = 5.0,
        stream: Any = None,
    ) -> None:
        self._total, self._unit, self._label = total, unit, label
        self._start = self._done = start
        self._stream = stream or sys.stderr
        self._began = self._last = time.monotonic()
        self._said = start
        self._recent: deque[tuple[float, int]] = deque([(self._began, start)])
        self._fields = ""
        console = Console(file=self._stream)
        self._again = console.is_jupyter and stream is None  # one line, written over itself
        self._every = min(every, 0.5) if self._again else every
        self._bar: RichProgress | None = None
        if console.is_terminal:
            # A narrow terminal has room for the numbers alone.
            bar = (BarColumn(), TaskProgressColumn()) if console.width >= _WIDE else ()
            head, tail = TextColumn("{task.description}"), TextColumn("{task.fields[tail]}")
            columns = (head, *bar, tail)
            self._bar = RichProgress(*columns, console=console)
            self._task = self._bar.add_task(label or unit, total=total, completed=start, tail="")

    def __enter__(self) -> "Progress":
        """Start the clock."""
        self._began = self._last = time.monotonic()
        self._recent = deque([(self._began, self._done)])
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        """Write the last line, unless it is there already."""
        if self._bar:
            self._bar.stop()
        elif self._done > self._said:
            self._line()
        if self._again and self._said > self._start:
            print(file=self._stream, flush=True)

    def advance(self, n: int, **fields: object) -> None:
        """Count ``n`` more units, and show values beside them (``loss=0.5``), empty ones not."""
        self._done += n
        if fields:
            shown = (f", {name} {_value(value)}" for name, value in fields.items() if value != "")
            self._fields = "".join(shown)
        now = time.monotonic()
        # The first units wait for a compile: time left follows what happened lately.
        self._recent.append((now, self._done))
        while now - self._recent[0][0] > _WINDOW:
            self._recent.popleft()
        if self._bar:
            self._bar.update(self._task, completed=self._done, tail=self._tail())
        elif now - self._last >= self._every or self._done >= self._total:
            self._line()
            self._last = now

    def doing(self, text: str) -> None:
        """Say what is done before the first unit: beside the bar, elsewhere in a line."""
        if self._bar:
            self.advance(0, now=text)
        else:
            self.note(f"{self._label or self._unit}: {text}")

    def note(self, text: str) -> None:
        """Write a line of its own, above the bar."""
        if self._bar:
            self._bar.console.print(printable(text), markup=False, highlight=False)
        else:
            line = "\n" * (self._again and self._said > self._start) + printable(text)
            print(line, file=self._stream, flush=True)

    def _line(self) -> None:
        self._said = self._done
        head = f"{self._label} " if self._label else ""
        if self._again:
            print(f"\r{head}{self._tail():<60}", end="", file=self._stream, flush=True)
        else:
            print(f"{head}{self._tail()}", file=self._stream, flush=True)

    def _tail(self) -> str:
        since, before = self._recent[0]
        left = self._total - self._done
        if left <= 0:  # the whole job, not its end
            since, before = self._began, self._start
        rate = (self._done - before) / max(self._recent[-1][0] - since, 1e-9)
        text = f"{self._done}/{self._total} {self._unit}, {_short(rate)} {self._unit}/s"
        if rate > 0 and left > 0:
            text += f", {clock(left / rate)} left"
        return text + self._fields


def _value(value: object) -> str:
    if isinstance(value, int | str) or not isinstance(value, SupportsFloat):
        return str(value)
    return f"{float(value):.3f}"


def _short(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.2g}"


def clock(seconds: float) -> str:
    """Write a duration.

    Example:
        >>> clock(75.0), clock(3700.0)
        ('1:15', '1:01:40')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
