"""Every command where files, streams, clock and environment are not as one is used to."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import every_command
import pytest

import fsclip_jax

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="needs bash and /dev/full"),
]

FULL = "fsclip: error: standard output cannot be written: No space left on device"


def tree(folder):
    """The names below a folder, without what names a process or a moment."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return sorted(name for name in names if "tfevents" not in name and "/checkpoints/" not in name)


def run_all(files, out, shell="{}", cwd=None, **variables):
    """Run every command below a folder to be made; return name, exit code, error stream of each."""
    out.mkdir(parents=True, exist_ok=True)
    ended = out.parent / "ended.json"
    words = [sys.executable, every_command.__file__, str(files), str(out), str(ended)]
    kept = {key: value for key, value in os.environ.items() if variables.get(key, "") is not None}
    given = {key: value for key, value in variables.items() if value is not None}
    done = subprocess.run(
        ["bash", "-c", shell.format('"$0" "$@"'), *words],
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**kept, "XLA_FLAGS": "", **given},
        timeout=580,
    )
    assert done.stderr == "", done.stderr
    return [json.loads(line) for line in ended.read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(files, tmp_path_factory):
    """What is written where all is well."""
    out = tmp_path_factory.mktemp("whole") / "out"
    for name, code, told in run_all(files, out):
        assert code == 0, (name, told)
    return tree(out)


def test_odd_names_no_home_ascii_and_a_closed_output(files, whole, tmp_path):
    place = tmp_path / "a b'c\"d#e%f{g}"
    shutil.copytree(files, place / "files")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    out = place / "out"
    ended = run_all(
        place / "files",
        out,
        shell="umask 077; {} >&-",
        cwd=elsewhere,
        HOME="/dev/null/nobody",
        XDG_CACHE_HOME=None,
        FSCLIP_CACHE=None,
        JAX_COMPILATION_CACHE_DIR=None,
        TMPDIR="/dev/null/nowhere",
        LANG="C",
        LC_ALL="C",
        PYTHONUTF8="0",
        PYTHONIOENCODING="ascii",
        PYTHONPATH=os.environ.get("PYTHONPATH", "") or str(Path(fsclip_jax.__file__).parents[1]),
    )
    for name, code, told in ended:
        assert code == 0, (name, told)
        assert "Traceback" not in told, (name, told)
        assert "matplotlib" not in told, (name, told)
    assert tree(out) == whole
    assert not any(elsewhere.iterdir())


def test_names_that_are_no_ascii_a_clock_set_back_and_a_full_output(files, whole, tmp_path):
    place = tmp_path / "é 日本 ℃"
    shutil.copytree(files, place / "files")
    for path in place.rglob("*"):
        os.utime(path, (4e9, 4e9))  # written in 2096
    ended = run_all(place / "files", place / "out", shell="{} > /dev/full", CLOCK="1e9")
    for name, code, told in ended:
        assert (code, told.splitlines()[-1:]) == (2, [FULL]), (name, told)
        assert "Traceback" not in told, (name, told)
    assert tree(place / "out") == whole


def test_a_package_that_may_not_be_written_to_and_an_output_nobody_reads(files, whole, tmp_path):
    package = Path(fsclip_jax.__file__).parent
    site = tmp_path / "site"
    shutil.copytree(package, site / "fsclip_jax", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(package.parent / "configs", site / "fsclip_jax/assets/configs")  # as in a wheel
    for path in site.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = {path: path.stat().st_mtime_ns for path in site.rglob("*") if path.is_file()}
    ended = run_all(
        files,
        tmp_path / "out",
        shell="{} | true",
        cwd=tmp_path,
        PYTHONPATH=f"{site}{os.pathsep}{Path(every_command.__file__).parent}",
        PYTHONDONTWRITEBYTECODE="1",
    )
    for path in site.rglob("*"):
        path.chmod(0o755)
    for name, code, told in ended:
        assert code == 0, (name, told)
        assert "Traceback" not in told, (name, told)
    assert tree(tmp_path / "out") == whole
    assert before == {path: path.stat().st_mtime_ns for path in site.rglob("*") if path.is_file()}
