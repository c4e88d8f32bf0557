"""Two processes of two devices each train as one of four does, and none outlives the other."""

import os
import signal
import time

import pytest
import several
from several import ends

from fsclip_jax.training.metrics_log import read_metrics

RECIPE = ["--steps", "300", "--batch", "4", "--steps-per-dispatch", "5", "--eval-every", "50"]
RECIPE += ["--checkpoint-every", "20", "--resume"]
PROMPT = 30.0
"""Seconds, on a machine that has other things to do."""


def start(config_file, workdir, devices, *flags):
    return several.start(
        "train", config_file, *RECIPE, "--workdir", workdir, *flags, devices=devices
    )


def start_two(config_file, workdir, *different):
    words = config_file, *RECIPE, "--workdir", workdir
    return several.start_two("train", *words, different=different or ((), ()))


def disturbed(config_file, workdir, victim, number):
    """Send one of two a signal once it trains, and wait for both."""
    processes = start_two(config_file, workdir)
    before = rows(workdir)
    deadline = time.monotonic() + 200
    while len(rows(workdir)) < len(before) + 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    processes[victim].send_signal(number)
    return ends(processes, PROMPT)


def rows(workdir):
    """The log without its times."""
    kept = [dict(row) for row in read_metrics(workdir / "metrics.jsonl")]
    for row in kept:
        row.pop("time"), row.pop("episodes_per_second", None)
    return kept


def assert_same(workdir, whole):
    file = "adapter.safetensors"
    assert (workdir / file).read_bytes() == (whole / file).read_bytes()
    assert rows(workdir) == rows(whole)


@pytest.fixture(scope="module")
def whole(config_file, tmp_path_factory):
    """What one process of four devices makes."""
    workdir = tmp_path_factory.mktemp("whole")
    codes, told = ends([start(config_file, workdir, 4)])
    assert codes == [0], told
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_in_a_line_and_two_continue(
    config_file, tmp_path, whole, victim
):
    codes, told = disturbed(config_file, tmp_path, victim, signal.SIGKILL)
    assert codes[1 - victim] == 2, told
    (line,) = [line for line in told[1 - victim][1].splitlines() if "train" not in line][-1:]
    assert line == (
        f"fsclip: error: stopped, for another process did: process {victim} was killed, or the "
        "connection to it was lost"
    )
    assert "Traceback" not in told[1 - victim][1]
    assert len(rows(tmp_path)) < len(rows(whole))
    codes, told = ends(start_two(config_file, tmp_path))
    assert codes == [0, 0], told
    assert told[1] == ("", ""), "process 0 says it for all"
    assert "adapter.safetensors" in told[0][0]
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_a_signal_to_one_stops_both_at_one_step_and_one_continues(config_file, tmp_path, whole):
    codes, told = disturbed(config_file, tmp_path, 1, signal.SIGTERM)
    assert codes == [128 + signal.SIGTERM] * 2, told
    said = {out.splitlines()[-1] for out, _ in told}
    step = rows(tmp_path)[-1]["step"]
    assert [line.partition(" of ")[0] for line in said] == [f"stopped at step {step}"]
    assert str(step) in os.listdir(tmp_path / "checkpoints/last")
    codes, told = ends([start(config_file, tmp_path, 4)])
    assert codes == [0], told
    assert f"continuing from step {step};" in told[0][1]
    assert_same(tmp_path, whole)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["sharded", "host"])
def test_two_train_from_a_bank_that_lies_elsewhere(config_file, tmp_path, whole, placement):
    flags = ["--bank-placement", placement]
    codes, told = ends(start_two(config_file, tmp_path, flags, flags))
    assert codes == [0, 0], told
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_a_mistake_of_one_is_told_by_both(config_file, tmp_path):
    codes, told = ends(start_two(config_file, tmp_path, [], ["--way", "4"]))
    assert codes == [2, 2], told
    lines = [err.splitlines()[-1] for _, err in told]
    why = "process 1 has another configuration than process 0 (way 5 there, 4 here)"
    assert lines[1].startswith(f"fsclip: error: {why}")
    assert lines[0].startswith(f"fsclip: error: stopped, for another process did: process 1: {why}")
    assert not (tmp_path / "checkpoints/last").exists() or not rows(tmp_path)


@pytest.mark.slow
def test_a_batch_that_they_cannot_share_is_refused(config_file, tmp_path):
    codes, told = ends(start_two(config_file, tmp_path, ["--batch", "5"], ["--batch", "5"]))
    assert codes == [2, 2], told
    for _, err in told:
        assert "--batch is 5, which 2 processes cannot share" in err.splitlines()[-1]
