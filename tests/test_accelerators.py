"""The extra follows what the system says of its devices, and `make quickstart` takes it."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from fsclip_jax import accelerators
from fsclip_jax.accelerators import Accelerator, find_accelerator

ROOT = Path(__file__).parents[1]
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19 18:56:32 UTC 2023"
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs)"


def system(root, **files):
    """A stand-in for the folders of the system: names with `__` for the slash."""
    for name, text in files.items():
        file = root / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


def nvidia(root, version):
    return system(root, dev__nvidia0="", proc__driver__nvidia__version=version)


def pci(root, vendor, device):
    where = "sys__bus__pci__devices__0000:00:05.0__"
    return system(root, **{f"{where}vendor": vendor, f"{where}device": device})


@pytest.mark.parametrize(
    ("version", "extra"),
    [
        (OPEN, "cuda13"),
        (OPEN.replace("580.65.06", "575.57.08"), "cuda12"),
        (CLOSED, "cuda12"),
        (CLOSED.replace("535.129.03", "525.60.13"), "cuda12"),
        (CLOSED.replace("535.129.03", "470.82"), ""),
    ],
)
def test_the_driver_says_which_cuda(tmp_path, version, extra):
    found = find_accelerator(nvidia(tmp_path, version))
    assert found is not None
    assert found.extra == extra
    assert re.search(r"driver \d{3}$", found.name)


def test_a_container_without_its_hosts_gpu_has_none(tmp_path):
    system(tmp_path, proc__driver__nvidia__version=OPEN, dev__null="", dev__nvidiactl="")
    assert find_accelerator(tmp_path) is None


def test_a_linux_within_windows_has_its_gpu(tmp_path):
    assert find_accelerator(system(tmp_path, dev__dxg="")) is None
    system(tmp_path, **{"usr__lib__wsl__lib__libcuda.so.1": ""})
    assert find_accelerator(tmp_path) == Accelerator("an NVIDIA GPU", "cuda12")


def test_a_tpu_is_told_from_a_network_card(tmp_path):
    assert find_accelerator(pci(tmp_path / "card", "0x1ae0", "0x0042")) is None
    assert find_accelerator(pci(tmp_path / "other", "0x8086", "0x0063")) is None
    assert find_accelerator(pci(tmp_path / "v5e", "0x1ae0", "0x0063")) == Accelerator(
        "a TPU", "tpu"
    )


def test_a_driver_that_says_nothing_is_none(tmp_path):
    assert find_accelerator(nvidia(tmp_path, "no number here")) is None


def test_it_is_asked_before_anything_is_installed(tmp_path):
    """With Python alone: no site-packages, nor this folder, whose typing.py is not Python's."""
    said = subprocess.run(
        [sys.executable, "-I", "-S", accelerators.__file__, nvidia(tmp_path, CLOSED)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "cuda12\n"


def test_an_old_driver_is_told_and_the_cpu_taken(tmp_path, capsys):
    nvidia(tmp_path, CLOSED.replace("535.129.03", "470.82"))
    assert accelerators.main([str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out == "\n"
    assert "driver 470: JAX needs driver 525 or newer" in err


def test_every_extra_is_one_of_this_package_and_of_jax():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    for extra in ("cuda12", "cuda13", "tpu"):
        assert extras[extra] == [f"jax[{extra}]>=0.10"]
        assert extra in metadata.metadata("jax").get_all("Provides-Extra")


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    ("extra", "installs"),
    [("cuda13", "'.[cuda13]'"), ("tpu", "'.[tpu]'"), ("", "--editable .\n")],
)
def test_quickstart_takes_the_extra(tmp_path, extra, installs):
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "fsclip_jax").mkdir()
    shutil.copy(accelerators.__file__, tmp_path / "fsclip_jax")
    words = ["make", "--dry-run", "quickstart", f"EXTRA={extra}", f"PYTHON={sys.executable}"]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert installs in told
    assert told.index("train.py") > told.index(installs)
