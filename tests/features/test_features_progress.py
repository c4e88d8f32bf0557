"""Plain lines where there is no terminal, a bar where there is one."""

import builtins
import io

import numpy as np
import pytest

from fsclip_jax.features.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_are_few_and_the_last_one_is_complete():
    stream = io.StringIO()
    with Progress(100, "images", "extract", stream=stream, every=3600) as progress:
        for _ in range(100):
            progress.advance(1, loss=np.float32(0.25), note="x", step=3)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("extract 100/100 images, ")
    assert lines[0].endswith("images/s, loss 0.250, note x, step 3")


def test_in_a_notebook_one_line_moves(monkeypatch, capsys):
    shell = type("ZMQInteractiveShell", (), {})  # as IPython calls that of a notebook
    monkeypatch.setattr(builtins, "get_ipython", shell, raising=False)
    with Progress(3, "pictures", "encode", every=0) as progress:
        for _ in range(3):
            progress.advance(1)
    said = capsys.readouterr().err
    assert [part.split(",")[0] for part in said.split("\r")] == [
        "",
        "encode 1/3 pictures",
        "encode 2/3 pictures",
        "encode 3/3 pictures",
    ]
    assert said.endswith("\n")
    assert said.count("\n") == 1


def test_an_interrupted_job_says_how_far_it_came():
    stream = io.StringIO()
    with Progress(10, "steps", stream=stream, every=3600) as progress:
        progress.advance(4)
    assert stream.getvalue().startswith("4/10 steps, ")
    assert " left" in stream.getvalue()


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [0.0]
    monkeypatch.setattr("fsclip_jax.features.progress.time.monotonic", lambda: now[0])
    return now


def test_work_of_an_earlier_run_does_not_count_as_speed(clock):
    stream = io.StringIO()
    with Progress(100, "images", start=60, every=1, stream=stream) as progress:
        clock[0] = 2
        progress.advance(20)
    assert stream.getvalue() == "80/100 images, 10 images/s, 0:02 left\n"


def test_time_left_forgets_a_slow_start(clock):
    stream = io.StringIO()
    with Progress(10_000, "images", every=1, stream=stream) as progress:
        for second in range(50, 81):  # the first unit took 50 seconds, then 100 a second
            clock[0] = second
            progress.advance(100)
    assert stream.getvalue().splitlines()[-1] == "3100/10000 images, 100 images/s, 1:09 left"


def test_notes_stand_on_lines_of_their_own():
    stream = io.StringIO()
    with Progress(1, "images", stream=stream) as progress:
        progress.note("skipped a.png")
        progress.advance(1)
    assert stream.getvalue().splitlines()[0] == "skipped a.png"


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    stream = Terminal()
    with Progress(8, "images", "extract", stream=stream) as progress:
        progress.note("skipped [a].png")
        progress.advance(8, loss=1.0)
    assert "extract" in stream.getvalue()
    assert "8/8 images" in stream.getvalue()
    assert "skipped [a].png" in stream.getvalue()
