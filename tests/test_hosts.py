"""Several hosts make one bank: here two processes that meet through jax.distributed."""

import socket
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from folders import content
from tiny_clip import noise_source, tiny_backbone

from fsclip_jax.errors import UserError
from fsclip_jax.features.extract import extract
from fsclip_jax.features.layout import partial_name
from fsclip_jax.features.shards import Extraction, ExtractSettings, encode_missing
from fsclip_jax.hosts import ALONE, Hosts, join_hosts

SETTINGS = ExtractSettings(views=2, dtype="float32", shard=4, batch=8)
PROGRAM = Path(__file__).parent / "support" / "host_process.py"


def test_each_host_writes_its_own_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(Hosts, "check", lambda _: None)
    source, clip = noise_source(23), tiny_backbone()
    for index in range(3):
        out = tmp_path / str(index)
        partial_name(out).mkdir()
        encode_missing(Extraction(source, clip, SETTINGS, out, hosts=Hosts(index, 3)))
    names = [sorted(f.name for f in tmp_path.glob(f"{index}.partial/*")) for index in range(3)]
    assert names == [
        [f"shard-{i:05d}.safetensors" for i in range(index, 6, 3)] for index in range(3)
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((None, 2, None), "need --coordinator"),
        (("nowhere", 2, 0), "must be HOST:PORT"),
        (("here:1", None, 0), "needs --processes N and --process I"),
        (("here:1", 2, 2), "--process is 2; with --processes 2"),
    ],
)
def test_flags_that_do_not_fit(given, said):
    with pytest.raises(UserError, match=said):
        join_hosts(*given)


def test_a_number_of_the_environment_is_checked(monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", "two")
    with pytest.raises(UserError, match="JAX_NUM_PROCESSES is 'two'"):
        join_hosts("auto")


@pytest.mark.parametrize(
    ("environment", "devices"),
    [
        ({}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "1(x4)"}, []),
        ({"SLURM_STEP_TASKS_PER_NODE": "8(x4)"}, None),
        ({"SLURM_STEP_TASKS_PER_NODE": "1,2(x3)"}, None),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, []),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "2"}, None),
        ({"SLURM_STEP_TASKS_PER_NODE": "1", "JAX_LOCAL_DEVICE_IDS": "0,1"}, None),
    ],
)
def test_a_process_alone_on_its_host_takes_all_its_devices(monkeypatch, environment, devices):
    """None leaves it to JAX, which gives every process under Slurm one device of its host."""
    asked = []

    def initialize(coordinator, processes, process, local_device_ids):
        asked.append((coordinator, processes, process, local_device_ids))
        raise RuntimeError("nobody is there")

    for name in ("JAX_COORDINATOR_ADDRESS", "SLURM_STEP_TASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    with pytest.raises(UserError, match=r"nobody is there; .* give HOST:PORT in place of auto"):
        join_hosts("auto")
    assert asked == [(None, None, None, devices)]


def test_alone_nobody_is_told_anything():
    ALONE.tell("start")
    ALONE.check()
    with pytest.raises(KeyError), ALONE.failing_together():
        raise KeyError("x")


def together(out, *views):
    """Run a process for each number of views; return exit codes and what each printed."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    started = [
        subprocess.Popen(
            [sys.executable, PROGRAM, out, address, str(len(views)), str(index), str(each)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index, each in enumerate(views)
    ]
    try:
        told = [process.communicate(timeout=200) for process in started]
    finally:
        for process in started:
            process.kill()
    return [process.returncode for process in started], told


@pytest.mark.slow
def test_two_processes_make_the_bytes_of_one(tmp_path):
    extract(noise_source(23), tiny_backbone(), tmp_path / "alone", SETTINGS)
    codes, told = together(tmp_path / "both", 2, 2)
    assert codes == [0, 0], told
    assert content(tmp_path / "both") == content(tmp_path / "alone")
    # 6 shards of 4 images, of which the last has 3: 0, 2, 4 here and 1, 3, 5 there.
    assert "extract 12/12 images" in told[0][1]
    assert "extract 11/11 images" in told[1][1]


@pytest.mark.slow
def test_a_mistake_of_one_ends_both_in_a_line(tmp_path):
    codes, told = together(tmp_path / "both", 2, 3)
    assert codes == [2, 2], told
    said = [out.splitlines()[-1] for out, _ in told]
    assert "made otherwise (views differ)" in said[1]
    assert said[0].startswith("stopped, for another process did: process 1: ")
    assert not (tmp_path / "both").exists()
