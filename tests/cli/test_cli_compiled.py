"""Compiled programs are kept for the next run, and a place that does not work breaks nothing."""

import json
import os
import subprocess
import sys

import pytest

from fsclip_jax.cli import compiled
from fsclip_jax.cli import main as cli
from fsclip_jax.cli.compiled import keep_compiled, take_flag
from fsclip_jax.errors import UserError

COMPILES = """
import sys
from fsclip_jax.cli.compiled import keep_compiled
folder = keep_compiled(None)
import collections, json, jax, jax.numpy as jnp
seen = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: seen.update([event.split("/")[-1]]))
x = jnp.ones((9, 3))
value = jax.jit(lambda x: jnp.tanh(x @ x.T).sum()).lower(x).compile()(x)
asked = seen["compile_requests_use_cache"]
print(json.dumps([str(folder), seen["cache_hits"], asked, float(value)]))
"""


SMALL_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
"""


def compile_in_a_process(cache, tmp_path, first=""):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "user")}
    environment = {k: v for k, v in environment.items() if not k.startswith("JAX_C")}
    environment.pop("FSCLIP_COMPILE_CACHE", None)
    environment.pop("JAX_ENABLE_COMPILATION_CACHE", None)
    if cache is not None:
        environment["FSCLIP_COMPILE_CACHE"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-c", first + COMPILES], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return *json.loads(done.stdout), done.stderr


@pytest.fixture
def settings(monkeypatch):
    """Keep what is set from JAX and from the other tests."""
    told = {}
    monkeypatch.setattr(compiled, "_set", told.__setitem__)
    for name in ("FSCLIP_COMPILE_CACHE", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(compiled.warnings, "filterwarnings", lambda *_, **__: None)
    return told


def test_a_second_process_compiles_nothing(tmp_path):
    folder, hits, asked, value, said = compile_in_a_process(None, tmp_path)
    assert folder.startswith(str(tmp_path / "user" / "fsclip_jax" / "compiled"))
    assert asked > 0
    assert hits == 0
    again = compile_in_a_process(None, tmp_path)
    assert again == (folder, asked, asked, value, "")
    assert said == ""


def test_a_disk_that_fills_up_costs_a_compile_and_nothing_else(tmp_path):
    mine = tmp_path / "mine"
    folder, hits, asked, value, said = compile_in_a_process(mine, tmp_path, SMALL_FILES)
    assert (hits, said) == (0, "")
    # What could be written of a program is there and is of no use.
    assert any(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
    assert compile_in_a_process(mine, tmp_path) == (folder, 0, asked, value, "")


def test_off_by_flag_and_by_variable(settings, monkeypatch, tmp_path):
    assert keep_compiled("off") is None
    assert settings == {"jax_enable_compilation_cache": False}
    monkeypatch.setenv("FSCLIP_COMPILE_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert keep_compiled(None) is None
    assert os.listdir(tmp_path) == []
    # The flag wins over the variable.
    assert keep_compiled(str(tmp_path / "flag")).parent == tmp_path / "flag"
    assert settings["jax_enable_compilation_cache"] is True


def test_who_set_up_the_cache_of_jax_keeps_it(settings, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "own"))
    assert keep_compiled(None) is None
    assert settings == {}
    assert keep_compiled(str(tmp_path / "flag")) is not None


@pytest.mark.parametrize("wrong", ["file", "shared", "full"])
def test_a_place_that_does_not_work_is_told_in_one_line(
    wrong, settings, monkeypatch, tmp_path, capsys
):
    place = tmp_path / "place"
    if wrong == "file":
        place.write_text("")
    elif wrong == "shared":
        keep_compiled(str(place)).chmod(0o777)
    else:
        monkeypatch.setattr(compiled, "LEAST_FREE", 2**80)
    assert keep_compiled(str(place)) is None
    assert settings["jax_enable_compilation_cache"] is False
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert str(place) in said
    assert "--compile-cache" in said


@pytest.mark.usefixtures("settings")
def test_what_was_used_least_lately_makes_room(monkeypatch, tmp_path):
    folder = keep_compiled(str(tmp_path))
    assert (folder.stat().st_mode & 0o777) == 0o700
    for age in range(10):
        file = folder / f"program-{age}-cache"
        file.write_bytes(b"x")
        os.utime(file, (1e9 - age, 1e9 - age))
    monkeypatch.setattr(compiled, "MOST_FILES", 10)
    keep_compiled(str(tmp_path))
    assert len(list(folder.iterdir())) == 10
    monkeypatch.setattr(compiled, "MOST_BYTES", 8)
    keep_compiled(str(tmp_path))
    assert {file.name for file in folder.iterdir()} == {f"program-{i}-cache" for i in range(4)}


def test_every_command_takes_the_flag(settings, monkeypatch, tmp_path, capsys):
    heard = []
    monkeypatch.setattr("fsclip_jax.cli.train.main", lambda args: heard.append(list(args)) or 0)
    assert cli.main(["train", "--steps", "3", f"--compile-cache={tmp_path}"]) == 0
    assert cli.main(["--compile_cache", "off", "train", "--steps", "3"]) == 0
    assert heard == [["--steps", "3"]] * 2
    assert settings["jax_compilation_cache_dir"].startswith(str(tmp_path))
    settings.clear()
    cli.main(["train", "--help"])
    assert settings == {}
    assert "--compile-cache DIR|off" in cli.usage()
    assert cli.main(["eval", "--compile-cach", "off"]) == 2
    assert "did you mean --compile-cache?" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--compile-cache"], ["--compile-cache", "--seeds"]])
def test_a_flag_that_names_nothing(words):
    with pytest.raises(UserError, match="names no folder"):
        take_flag(words)
