import math
import os

import pytest

from fsclip_jax import machine
from fsclip_jax.machine import cores, memory

GIB = 2**30


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A stand-in for a machine of 16 cores and 64 GiB, by what its files hold."""
    sizes = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 64 * GIB // 4096}
    monkeypatch.setattr(os, "sysconf", sizes.get)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)

    def made(groups, **files):
        written = {"proc/self/cgroup": groups}
        written |= {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
        for name, text in written.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return made


def test_a_machine_without_limits_is_all_of_it(system, tmp_path):
    assert (cores(tmp_path), memory(tmp_path)) == (16, 64 * GIB)
    root = system("0::/\n", **{"memory.max": "max\n", "cpu.max": "max 100000\n"})
    assert (cores(root), memory(root)) == (16, 64 * GIB)


def test_a_container_sees_its_own_group_as_the_root(system):
    root = system("0::/\n", **{"memory.max": f"{2 * GIB}\n", "cpu.max": "300000 100000\n"})
    assert (cores(root), memory(root)) == (3, 2 * GIB)


def test_the_tightest_of_the_groups_that_lie_in_each_other_counts(system):
    files = {
        "job/memory.max": f"{8 * GIB}\n",
        "job/task/memory.max": "max\n",
        "job/cpu.max": "800000 100000\n",
        "job/task/cpu.max": "400000 100000\n",
        "other/memory.max": f"{GIB}\n",
    }
    root = system("0::/job/task\n", **files)
    assert (cores(root), memory(root)) == (4, 8 * GIB)


@pytest.mark.parametrize("mounted", ["cpu", "cpu,cpuacct"])
def test_version_1_has_a_tree_a_controller(system, mounted):
    groups = f"9:name=systemd:/\n4:memory:/job\n3:cpuset:/\n1:{mounted}:/job\n0::/\n"
    files = {
        "memory/job/memory.limit_in_bytes": f"{4 * GIB}\n",
        "memory/memory.limit_in_bytes": "9223372036854771712\n",
        f"{mounted}/job/cpu.cfs_quota_us": "250000\n",
        f"{mounted}/job/cpu.cfs_period_us": "100000\n",
        f"{mounted}/cpu.cfs_quota_us": "-1\n",
        f"{mounted}/cpu.cfs_period_us": "100000\n",
    }
    root = system(groups, **files)
    assert (cores(root), memory(root)) == (3, 4 * GIB)


def test_a_group_whose_name_is_of_outside_is_read_at_the_root(system):
    groups = "4:memory:/docker/1f2e\n1:cpu,cpuacct:/docker/1f2e\n"
    files = {
        "memory/memory.limit_in_bytes": f"{GIB}\n",
        "cpu,cpuacct/cpu.cfs_quota_us": "50000\n",
        "cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    root = system(groups, **files)
    assert (cores(root), memory(root)) == (1, GIB)


def test_files_of_another_form_say_nothing(system):
    root = system("nonsense\n0::/\n", **{"memory.max": "plenty\n", "cpu.max": "\n"})
    assert (cores(root), memory(root)) == (16, 64 * GIB)


def test_an_affinity_of_fewer_cores_counts(system, monkeypatch):
    root = system("0::/\n", **{"cpu.max": "800000 100000\n"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert cores(root) == 2


def test_a_system_that_does_not_say_its_memory_has_no_end_of_it(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sysconf")
    assert memory(tmp_path) == math.inf
    assert machine.cores() >= 1
