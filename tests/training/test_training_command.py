"""The command as a user runs it, in processes of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from killing import kills_of

from fsclip_jax.adapters.checkpoint import load_adapter
from fsclip_jax.cli.main import main
from fsclip_jax.training.metrics_log import read_metrics

RECIPE = ["--steps", "120", "--steps-per-dispatch", "5", "--eval-every", "50"]
RECIPE += ["--checkpoint-every", "20"]
ONE_DEVICE = {"XLA_FLAGS": ""}


def start(config_file, workdir, *flags, **options):
    command = [sys.executable, "-m", "fsclip_jax.cli.main", "train", str(config_file)]
    return subprocess.Popen(
        [*command, "--workdir", str(workdir), *RECIPE, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | ONE_DEVICE,
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


@pytest.fixture(scope="module")
def whole(config_file, tmp_path_factory):
    """A run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("whole")
    code, output = finish(start(config_file, workdir))
    assert code == 0, output
    return workdir


def assert_ends_as(workdir, whole):
    file = "adapter.safetensors"
    assert (workdir / file).read_bytes() == (whole / file).read_bytes()
    steps, expected = (
        [row["step"] for row in read_metrics(place / "metrics.jsonl")] for place in (workdir, whole)
    )
    assert steps == expected


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and fork are POSIX")
def test_a_run_killed_again_and_again_ends_in_the_same_bits(config_file, whole, tmp_path, kills):
    words = ["train", config_file, *RECIPE]
    lines = kills_of("training_child.py", kills, tmp_path, *words, **ONE_DEVICE)
    assert len(lines) == kills
    assert len({tuple(line) for line in lines}) >= min(6, kills - 1), lines  # in many states
    runs = sorted(tmp_path.glob("killed-*"))
    assert runs
    for workdir in runs:
        assert_ends_as(workdir, whole)


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
def test_a_full_disk_is_one_line_and_the_run_continues_when_there_is_space(
    config_file, whole, tmp_path
):
    import resource

    def shrink():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))

    code, output = finish(start(config_file, tmp_path, preexec_fn=shrink))
    assert code == 2, output
    assert "Traceback" not in output
    assert [line for line in output.splitlines() if "no space left to write" in line]
    code, output = finish(start(config_file, tmp_path, "--resume"))
    assert code == 0, output
    assert_ends_as(tmp_path, whole)


def test_the_command_ends_with_a_summary_and_the_next_command(config_file, tmp_path, capsys):
    words = ["train", str(config_file), "--workdir", str(tmp_path / "run"), "--steps", "4"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    told = out.splitlines()
    assert len(told) == 4
    said = err.splitlines()
    assert said.index("train: compiling") < said.index(
        next(line for line in said if line.startswith("train 4/4 steps"))
    )
    assert re.search(r"train 4/4 steps, .*, loss \d+\.\d{3}, accuracy \d+\.\d %$", err, re.M)
    assert "meta_adapter: best of 4 steps is step" in told[0]
    assert "untrained" in told[0]
    assert "zero_shot" in told[0]
    assert told[1].startswith("wrote ")
    assert told[2] == (
        f"log: {tmp_path}/run/metrics.jsonl; its curves: tensorboard --logdir {tmp_path}/run"
    )
    assert told[3].startswith("next: fsclip eval --data bank:")
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
        (["--method", "zero_shot"], "nothing to learn across tasks; train one of meta_adapter"),
        (["--method", "taskres"], "across tasks: it trains on the shots of each task; train one"),
        (
            ["--method", "text_prototype", "--fields", "heads=2"],
            "text_prototype has no field 'heads'",
        ),
        (["--fields", "heads=3"], "3 heads do not divide 16 features"),
        (["--fields", "heads=two"], "heads of meta_adapter is a number"),
        (["--fields", "text_in_keys=1"], "is true or false"),
        (["--fields", "heads"], "is not NAME=VALUE"),
        (["--method", "coop"], "learns through the text tower"),
        (["--method", "clip_lora"], "learns through both towers"),
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


@pytest.mark.parametrize(("classes", "unseen"), [("base", True), ("all", False)])
def test_says_first_how_many_classes_are_not_trained_on(
    config_file, tmp_path, capsys, classes, unseen
):
    words = ["train", str(config_file), "--workdir", str(tmp_path / "run"), "--classes", classes]
    assert main([*words, "--steps", "1", "--method", "meta_probe"]) == 0
    first = re.search(r"(\d+) of (\d+) classes to train on \((\d+) held out(.*?)\)", both(capsys))
    trained, total, held = map(int, first.groups()[:3])
    assert (trained + held < total) == unseen
    kept = f"; {total - trained - held} kept for a test on novel classes, --classes all trains"
    assert first[4].startswith(kept if unseen else "")


def both(capsys):
    printed = capsys.readouterr()
    return printed.out + printed.err
