"""One way to kill: fork a child, wait until it says how far it is, kill it a moment later.

A program under test imports JAX once and forks before any backend is there, so that a child costs
little more than what it does until it is killed. The programs beside this file say what a child
does; :func:`kills_of` says what they report. How many kills there are is ``--kills`` of pytest.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent


def run_and_kill(
    work: Callable[[Callable[[], None]], int | None], told: int | None = 1, wait: float = 0.0
) -> bool:
    """Run in a child and kill it; say if it was killed before it was done.

    Args:
        work: what the child does; it is handed a function by which it tells that a step was made,
            and returns an exit code, or None for 0.
        told: steps after which the child is killed; None leaves it alone.
        wait: seconds between the last of these steps and the kill.
    """
    from jax._src import xla_bridge  # public JAX does not say whether a fork is still safe

    assert not xla_bridge.backends_are_initialized(), "a fork would share the backend's threads"
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        _run(work, ready, tell)
    os.close(tell)
    left = told
    while left is None or left > 0:
        if not os.read(ready, 1):
            break  # it has ended
        left = None if left is None else left - 1
    if left is not None:
        time.sleep(wait)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ready)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the child failed"
    return os.WIFSIGNALED(status)


def _run(work: Callable[[Callable[[], None]], int | None], ready: int, tell: int) -> None:
    """The child; it never returns, and no handler of the parent runs in it."""
    code = 1
    try:
        os.close(ready)
        quiet = open(os.devnull, "w")  # noqa: SIM115 (it ends with the process)
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            code = work(lambda: _say(tell)) or 0
    except BaseException:
        traceback.print_exc(file=sys.stdout)
    finally:
        sys.stdout.flush()
        os._exit(code)


def _say(tell: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the parent has closed its end: it kills us
        os.write(tell, b"x")


def telling(module: object, name: str, tell: Callable[[], None]) -> None:
    """Let a function of a module tell whenever it is called."""
    function = getattr(module, name)

    def from_here(*args, **options):
        tell()
        return function(*args, **options)

    setattr(module, name, from_here)


def kills_of(
    program: str, kills: int, *words: object, seed: int = 0, **environment: str
) -> list[list[str]]:
    """Run a program beside this file that kills so many children; return the words of its lines.

    Args:
        program: its name; it takes the number of kills, a seed and the words.
        kills: how many.
        words: what else it takes.
        seed: of the moments.
        **environment: variables beside those of this process.
    """
    command = [sys.executable, str(HERE / program), str(kills), str(seed), *map(str, words)]
    quiet = {**os.environ, "TOKENIZERS_PARALLELISM": "false", **environment}  # it warns on a fork
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, env=quiet)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split() for line in done.stdout.splitlines() if line]


def moments(seed: str | int) -> random.Random:
    """Random moments that are the same every time."""
    return random.Random(int(seed))
