"""The command as a user runs it, in processes of its own."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from fsclip_jax.adapters.checkpoint import load_adapter
from fsclip_jax.cli.main import main
from fsclip_jax.training.metrics_log import read_metrics

SLOWER = ["--steps", "600", "--steps-per-dispatch", "5", "--eval-every", "50"]
CHECKPOINTS = ["--checkpoint-every", "20"]


def start(config_file, workdir, *flags, **options):
    programs = os.environ["FSCLIP_TEST_PROGRAMS"]  # compiled once for all children
    environment = {**os.environ, "XLA_FLAGS": "", "FSCLIP_COMPILE_CACHE": programs}
    command = [sys.executable, "-m", "fsclip_jax.cli.main", "train", str(config_file)]
    return subprocess.Popen(
        [*command, "--workdir", str(workdir), *SLOWER, *CHECKPOINTS, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        **options,
    )


def finish(process):
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def wait_for_step(process, workdir, step):
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and process.poll() is None:
        rows = read_metrics(workdir / "metrics.jsonl")
        if rows and rows[-1]["step"] >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached: {finish(process)}")


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_in_the_same_bits(config_file, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert finish(start(config_file, whole))[0] == 0
    # In the middle of a dispatch, right behind a checkpoint, and while one is being written.
    for step, delay in ((10, 0.0), (60, 0.003), (200, 0.0), (350, 0.011)):
        process = start(config_file, killed, "--resume")
        wait_for_step(process, killed, step)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, output = finish(start(config_file, killed, "--resume"))
    assert code == 0, output
    assert "continuing from step" in output
    assert (whole / "adapter.safetensors").read_bytes() == (
        killed / "adapter.safetensors"
    ).read_bytes()
    steps = [row["step"] for row in read_metrics(killed / "metrics.jsonl")]
    assert steps == [row["step"] for row in read_metrics(whole / "metrics.jsonl")]


@pytest.mark.slow
def test_ctrl_c_leaves_a_workdir_that_continues(config_file, tmp_path):
    # Far too many steps to end by itself, and no checkpoint but the one made on leaving.
    long = ("--steps", "1000000", "--checkpoint-every", "1000000", "--resume")
    reached = 0
    for _ in range(2):
        process = start(config_file, tmp_path, *long)
        wait_for_step(process, tmp_path, reached + 20)
        process.send_signal(signal.SIGINT)
        code, output = finish(process)
        assert code == 128 + signal.SIGINT, output
        assert "Traceback" not in output
        assert output.splitlines()[-1].startswith("stopped at step ")
        assert "--resume continues in" in output
        if reached:
            assert f"continuing from step {reached};" in output
        reached = read_metrics(tmp_path / "metrics.jsonl")[-1]["step"]
    assert [path.name for path in (tmp_path / "checkpoints/last").iterdir()] != []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_full_disk_is_one_line_and_the_run_continues_when_there_is_space(config_file, tmp_path):
    import resource

    run, limit = tmp_path / "run", 4000

    def shrink():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    process = start(config_file, run, "--steps", "60")
    assert finish(process)[0] == 0
    process = start(config_file, tmp_path / "full", "--steps", "60", preexec_fn=shrink)
    code, output = finish(process)
    assert code == 2, output
    assert "Traceback" not in output
    assert [line for line in output.splitlines() if "no space left to write" in line]
    code, output = finish(start(config_file, tmp_path / "full", "--steps", "60", "--resume"))
    assert code == 0, output
    assert (run / "adapter.safetensors").read_bytes() == (
        tmp_path / "full" / "adapter.safetensors"
    ).read_bytes()


def test_the_command_ends_with_a_summary_and_the_next_command(config_file, tmp_path, capsys):
    words = ["train", str(config_file), "--workdir", str(tmp_path / "run"), "--steps", "4"]
    assert main(words) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 3
    assert "meta_adapter: best of 4 steps is step" in told[0]
    assert "untrained" in told[0]
    assert "zero_shot" in told[0]
    assert told[1].startswith("wrote ")
    assert told[2].startswith("next: python eval.py --data bank:")
    assert load_adapter(tmp_path / "run")[0] == "meta_adapter"
    assert json.loads((tmp_path / "run/config.json").read_text())["config"]["steps"] == 4

    assert main(words) == 0
    assert "was trained already" in capsys.readouterr().out

    assert main([*words, "--way", "3"]) == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("fsclip: error: ")
    assert "way 5 there, 3 now" in error[-1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method", "meta_adaptor"], "did you mean meta_adapter"),
        (["--method", "zero_shot"], "nothing to learn"),
        (
            ["--method", "text_prototype", "--fields", "heads=2"],
            "text_prototype has no field 'heads'",
        ),
        (["--fields", "heads=3"], "3 heads do not divide 16 features"),
        (["--fields", "heads=two"], "heads of meta_adapter is a number"),
        (["--fields", "text_in_keys=1"], "is true or false"),
        (["--fields", "heads"], "is not NAME=VALUE"),
        (["--method", "coop"], "learns through the text tower"),
        (["--steps", "0"], "--steps is 0, but must be 1 or more"),
        (["--data", "bank:nowhere"], "there is no bank at nowhere"),
        (["--min-shot", "3", "--shot", "9"], None),
        (["--min-shot", "6", "--shot", "9"], r"fewer than 6 + 1 images"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(config_file, tmp_path, capsys, flags, message):
    words = ["train", str(config_file), "--workdir", str(tmp_path / "run"), "--steps", "2", *flags]
    code = main(words)
    error = capsys.readouterr().err.strip().splitlines()
    if message is None:
        assert code == 0
        return
    assert code == 2
    assert error[-1].startswith("fsclip: error: ")
    assert message in error[-1]
