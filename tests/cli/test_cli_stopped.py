"""Ctrl-C, SIGTERM and SIGHUP at any moment of any command: one line, and the signal's exit code."""

import os
import random
import signal
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from fsclip_jax.cli import main as cli
from fsclip_jax.stopping import stopping

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the signals are POSIX")

ASKED = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


class Held:
    """Something whose end is a moment at which Python loses exceptions."""

    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)


def lost_in_a_callback():
    held = {0}.__class__()  # anything that takes weak references
    watched = weakref.ref(held, lambda _: os.kill(os.getpid(), signal.SIGINT))
    del held
    return watched


def lost_in_a_finaliser():
    Held()


def swallowed():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    except KeyboardInterrupt:
        pass


def turned_into_something_else():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
    except KeyboardInterrupt:
        raise ValueError("lost") from None


@pytest.mark.parametrize(
    "lose",
    [lost_in_a_callback, lost_in_a_finaliser, swallowed, turned_into_something_else],
)
def test_a_stop_that_is_lost_on_its_way_is_kept(lose, monkeypatch, capsys):
    def work(_):
        lose()
        time.sleep(60)
        return 0

    monkeypatch.setattr("fsclip_jax.cli.methods.main", work)
    start = time.monotonic()
    assert cli.main(["methods"]) == 130
    assert time.monotonic() - start < 30
    assert capsys.readouterr().err == "fsclip: stopped\n"


@pytest.fixture
def heard():
    """No signal is ignored, whatever started the tests: `nohup` has them ignore one."""
    ignored = [name for name in ASKED if signal.getsignal(getattr(signal, name)) is signal.SIG_IGN]
    for name in ignored:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    yield
    for name in ignored:
        signal.signal(getattr(signal, name), signal.SIG_IGN)


@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("name", ASKED)
def test_every_signal_has_its_exit_code(name, monkeypatch, capsys):
    cleared = []

    def work(_):
        try:
            os.kill(os.getpid(), getattr(signal, name))
            time.sleep(60)
        finally:  # clearing up is not interrupted by reminders
            time.sleep(0.2)
            cleared.append(True)
        return 0

    before = {key: signal.getsignal(getattr(signal, key)) for key in ASKED}
    monkeypatch.setattr("fsclip_jax.cli.methods.main", work)
    assert cli.main(["methods"]) == ASKED[name]
    assert cleared
    assert capsys.readouterr().err == "fsclip: stopped\n"
    assert before == {key: signal.getsignal(getattr(signal, key)) for key in ASKED}


def test_no_import_of_somebody_else_is_interrupted(tmp_path, monkeypatch, capsys):
    (tmp_path / "half_made.py").write_text(
        "import os, signal, time\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "time.sleep(0.1)\n"
        "whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found = []

    def work(_):
        import half_made

        found.append(half_made.whole)
        time.sleep(60)
        return 0

    monkeypatch.setattr("fsclip_jax.cli.methods.main", work)
    assert cli.main(["methods"]) == 130
    assert found == [True]
    assert capsys.readouterr().err == "fsclip: stopped\n"


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping() as stops:
            stops.listen()
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.05)
            assert stops.number == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def started(words, place, **options):
    """A command in a process of its own, to which no signal is ignored."""

    def heed():
        for name in ASKED:
            signal.signal(getattr(signal, name), signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, *words],
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed,
        **options,
    )


def test_work_that_asks_is_interrupted_by_the_second_signal_alone(tmp_path):
    # In a process of its own: whoever goes on after the second is reminded, wherever it is.
    program = (
        "import os, signal, time\n"
        "from fsclip_jax.stopping import Stopped, leave, stop_requests\n"
        "try:\n"
        "    with stop_requests() as requested:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(0.1)\n"
        "        print(requested(), flush=True)\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "        time.sleep(60)\n"
        "except Stopped as stopped:\n"
        "    leave(stopped.number)\n"
    )
    process = started(["-c", program], tmp_path)
    said, told = process.communicate(timeout=60)
    assert (said, process.returncode) == (f"{signal.SIGTERM:d}\n", signal.SIGTERM)
    assert told == "stopping: one moment, to save a checkpoint\n"


def test_the_second_signal_ends_what_does_not_listen(tmp_path):
    program = (
        "import hashlib, sys\n"
        "from fsclip_jax.cli import main, methods\n"
        "def deaf(_):\n"
        "    print('begun', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"
        "methods.main = deaf\n"
        "sys.exit(main.main(['methods']))\n"
    )
    process = started(["-c", program], tmp_path)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)  # two of a kind at once are one to the system
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (130, "fsclip: stopped\n")


COMMANDS = {
    "train": "train",
    "eval": "eval",
    "suite": "suite",
    "extract": "extract --data emoji --views 4 --out bank",
    "scenes": "scenes --out scenes",
    # The one export that trains: any other may be done within the two seconds.
    "export": "export --support ../labelled --method clip_lora --format merged --out model"
    " --compile-cache off",
}


@pytest.mark.slow
@pytest.mark.kills
def test_a_signal_at_any_moment_of_the_first_two_seconds(tmp_path, kills):
    rng = random.Random(5)
    for label in "ab":
        (tmp_path / "labelled" / label).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "labelled" / label / "1.png")
    for at in range(2 * kills):
        command = list(COMMANDS)[at % len(COMMANDS)]
        place = tmp_path / str(at)
        place.mkdir()
        process = started(["-m", "fsclip_jax.cli.main", *COMMANDS[command].split()], place)
        name = rng.choice(["SIGINT", "SIGINT", *ASKED])
        # Before the first of these moments Python itself is not there yet.
        moment = rng.uniform(0.25, 2)
        time.sleep(moment)
        assert process.poll() is None, (command, moment, "was done before")
        process.send_signal(getattr(signal, name))
        _, told = process.communicate(timeout=120)
        assert process.returncode == ASKED[name], (command, name, moment, told)
        assert told.splitlines()[-1].startswith("fsclip: stopped"), (command, name, moment, told)
        assert "Traceback" not in told, (command, name, moment, told)


@pytest.mark.slow
def test_three_times_ctrl_c_leaves_no_worker(tmp_path):
    words = "extract --data emoji --views 4 --workers 2 --out bank"
    process = started(
        ["-m", "fsclip_jax.cli.main", *words.split()], tmp_path, start_new_session=True
    )
    deadline = time.monotonic() + 200
    while not list(Path(tmp_path).glob("bank.partial/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    for _ in range(3):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it
        time.sleep(0.1)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told, told
    assert told.splitlines()[-1].startswith("fsclip: stopped")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError("a worker outlives the command")
