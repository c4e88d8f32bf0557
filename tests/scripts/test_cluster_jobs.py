"""The job files for clusters: shell and YAML as they must be, and commands that fsclip takes."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from fsclip_jax.cli.completion import CONFIGS
from fsclip_jax.cli.parsing import parse, parse_experiment

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "scripts" / "cluster"
SLURM = sorted(FOLDER.glob("*.slurm"))
JOBSETS = sorted(FOLDER.glob("*.yaml"))
GIVEN = {
    "train": ["runs/bank", "runs/train"],
    "extract": ["folder:photos", "runs/bank"],
    "suite": ["configs/emoji_suite.py", "runs/suite"],
}
"""The words with which each Slurm script is sent off, as its head says."""


def config_of(command, words):
    """What the command makes of its words; a flag that there is not is a ``UserError``."""
    words = [re.sub(r"^/mnt/fsclip/suite.py$", "configs/emoji_suite.py", word) for word in words]
    if command in ("train", "suite"):
        return parse_experiment(CONFIGS[command], command, words)[0]
    return parse(CONFIGS[command], words, prog=f"fsclip {command}")


def sent(script, tmp_path, code, restarts="0"):
    """Run a Slurm script with an ``srun`` that ends so; return its code and what it started."""
    for name, ends in (("srun", code), ("scontrol", 0)):
        stub = tmp_path / name
        stub.write_text(f'#!/bin/bash\nprintf "%s\\n" {name} "$@" "" >> "$LOG"\nexit {ends}\n')
        stub.chmod(0o755)
    log = tmp_path / "log"
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(log), "SLURM_JOB_ID": "7"}
    done = subprocess.run(
        ["bash", script, *GIVEN[script.stem]],
        env={**env, "SLURM_RESTART_COUNT": restarts},
        capture_output=True,
        text=True,
    )
    started = [words.split("\n") for words in log.read_text().strip("\n").split("\n\n")]
    return done, started


def test_there_is_one_of_each_kind_for_every_long_job():
    assert [file.stem for file in SLURM] == ["extract", "suite", "train"]
    assert [file.stem for file in JOBSETS] == ["extract", "suite", "train"]


@pytest.mark.parametrize("script", SLURM, ids=lambda file: file.stem)
def test_the_shell_reads_it(script):
    for checker in (["bash", "-n"], ["shellcheck", "--shell=bash"]):
        if shutil.which(checker[0]):
            done = subprocess.run([*checker, script], capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("script", SLURM, ids=lambda file: file.stem)
def test_slurm_is_told_before_the_first_command(script):
    head, _, body = script.read_text().partition("\nset -euo pipefail\n")
    asked = dict(re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", head, re.MULTILINE))
    assert head.startswith("#!/bin/bash\n")
    assert "#SBATCH" not in body
    assert asked["ntasks-per-node"] == "1", "a process a host, as --coordinator auto counts them"
    assert int(asked["nodes"]) > 1
    assert asked["requeue"] == ""
    signal, seconds = asked["signal"].split("@")
    assert signal == "TERM"  # without B:, so that it comes to fsclip and not to the shell
    assert int(seconds) >= 60


@pytest.mark.parametrize("script", SLURM, ids=lambda file: file.stem)
def test_what_slurm_starts_is_taken_by_the_command_line(script, tmp_path):
    done, started = sent(script, tmp_path, code=0)
    assert done.returncode == 0, done.stderr
    ((*srun, program, command), words) = started[0][:4], started[0][4:]
    assert (srun, program, command) == (["srun", "--kill-on-bad-exit=0"], "fsclip", script.stem)
    assert len(started) == 1
    config = config_of(command, words)
    assert config.coordinator == "auto"
    nodes = int(re.search(r"--nodes=(\d+)", script.read_text())[1])
    if command == "train":
        assert config.resume
        assert config.batch % nodes == 0


@pytest.mark.parametrize("script", SLURM, ids=lambda file: file.stem)
@pytest.mark.parametrize("code", [130, 137, 143])
def test_what_was_stopped_or_killed_is_put_in_the_queue_again(script, code, tmp_path):
    done, started = sent(script, tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert started[1] == ["scontrol", "requeue", "7"]


@pytest.mark.parametrize("script", SLURM, ids=lambda file: file.stem)
@pytest.mark.parametrize(("code", "restarts"), [(1, "0"), (2, "0"), (143, "20")])
def test_a_mistake_is_not_tried_again_nor_anything_for_ever(script, code, restarts, tmp_path):
    done, started = sent(script, tmp_path, code, restarts)
    assert done.returncode == code
    assert len(started) == 1


@pytest.mark.parametrize("script", SLURM, ids=lambda file: file.stem)
def test_words_that_lack_are_asked_for(script):
    done = subprocess.run(["bash", script], capture_output=True, text=True)
    assert done.returncode != 0
    assert "give " in done.stderr


@pytest.mark.parametrize("file", JOBSETS, ids=lambda file: file.stem)
def test_a_jobset_has_what_the_interface_asks_for(file):
    (jobset,) = yaml.safe_load_all(file.read_text())
    assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert jobset["kind"] == "JobSet"
    name = jobset["metadata"]["name"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)
    assert set(jobset["spec"]) <= {"failurePolicy", "network", "replicatedJobs", "successPolicy"}
    assert jobset["spec"]["failurePolicy"]["maxRestarts"] > 0
    assert jobset["spec"]["network"]["enableDNSHostnames"] is True
    (job,) = jobset["spec"]["replicatedJobs"]
    assert set(job) == {"name", "replicas", "template"}
    spec = job["template"]["spec"]
    assert job["replicas"] == 1
    assert spec["completions"] == spec["parallelism"] > 1
    assert spec["completionMode"] == "Indexed"
    assert spec["backoffLimit"] == 0, "a pod alone cannot begin again: all do, by the failurePolicy"
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 60
    (container,) = pod["containers"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    # The first pod of the only job, by the name that the headless service gives it.
    env = {each["name"]: each for each in container["env"]}
    at = f"{name}-{job['name']}-0-0.{name}:"
    assert env["JAX_COORDINATOR_ADDRESS"]["value"].startswith(at)
    assert env["JAX_NUM_PROCESSES"]["value"] == str(spec["completions"])
    assert env["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"] == (
        "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    )


@pytest.mark.parametrize("file", JOBSETS, ids=lambda file: file.stem)
def test_what_a_jobset_starts_is_taken_by_the_command_line(file):
    jobset = yaml.safe_load(file.read_text())
    spec = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"] == ["fsclip"]
    command, *words = container["args"]
    assert all(isinstance(word, str) for word in container["args"]), "Kubernetes takes strings"
    assert command == file.stem
    config = config_of(command, words)
    assert config.coordinator == "auto"
    if command == "train":
        assert config.resume
        assert config.batch % spec["completions"] == 0
    places = [word.partition(":")[2] or word for word in words if "/mnt/fsclip" in word]
    (mount,) = container["volumeMounts"]
    assert all(place.startswith(mount["mountPath"]) for place in places)
