"""The commands' front door: help, unknown words, configuration files, exit codes."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal

import jax
import numpy as np
import pytest
import tyro

import fsclip_jax
from fsclip_jax.cli import main as cli
from fsclip_jax.cli.parsing import load_config, parse, split_config_file
from fsclip_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Bake."""

    steps: int = 3
    """How many."""
    rate: float = 0.5
    shots: tuple[int, ...] = (1, 2)
    min_shot: int | None = None
    place: Path | None = None


OF_RECIPE = "from test_cli_main import Recipe\n"


def read(*args):
    return parse(Recipe, args, prog="fsclip bake", default=Recipe(rate=0.25))


def test_flags_override_the_default():
    assert read("--steps", "7", "--shots", "4", "8") == Recipe(7, 0.25, (4, 8))
    assert read("--min_shot=2") == read("--min-shot", "2") == Recipe(3, 0.25, (1, 2), 2)
    assert read() == Recipe(rate=0.25)


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Count."""

    seeds: int = 3
    workers: int | None = None
    windows: tuple[int, ...] = ()
    seed: int = 0
    steps: int = 1
    learning_rate: float = 0.1
    clip_norm: float = 1.0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--seeds", "1000000000"], "--seeds is 1000000000; give 10,000 or less"),
        (["--workers", "100000"], "--workers is 100000; give 1,024 or less"),
        (["--windows", "8", str(10**12)], "--windows is 1000000000000; give 65,535 or less"),
        (["--steps", "9" * 400], "; give 2,147,483,647 or less"),
        (["--learning-rate", "1e308"], "--learning-rate is 1e+308; give 1,000 or less"),
        (["--learning-rate", "inf"], "--learning-rate is inf; give 1,000 or less"),
    ],
)
def test_numbers_that_nothing_is_enough_for(args, said):
    with pytest.raises(UserError) as caught:
        parse(Numbers, args, prog="fsclip count")
    assert str(caught.value).endswith(said)
    honest = ["--seed", str(2**40), "--clip-norm", "inf", "--windows", "64", "--workers", "8"]
    assert parse(Numbers, honest, prog="fsclip count").clip_norm == float("inf")


def _jax_without_memory(_):
    import jax.numpy as jnp

    return jnp.zeros((2**44,), jnp.float32).block_until_ready()


@pytest.mark.parametrize("fail", [lambda _: bytearray(2**60), _jax_without_memory])
def test_too_little_memory_is_one_line(monkeypatch, capsys, fail):
    monkeypatch.setattr(cli, "_dispatch", fail)
    assert cli.main(["eval"]) == 2
    line = capsys.readouterr().err
    assert line.startswith("fsclip: error: there is not enough memory (")
    assert line.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--step", "7"], "unknown flag --step; did you mean --steps?"),
        (["--steps", "many"], "--steps is 'many'; give a whole number"),
        (["--rate", "x"], "--rate is 'x'; give a number"),
        (["--rate=x"], "--rate is 'x'; give a number"),
        (["--place"], "--place needs a value: --place PATH"),
        (["--place", "--steps", "3"], "--place needs a value: --place PATH"),
        (["--dty", "a"], "unknown flag --dty (`fsclip bake --help` lists them)"),
        (["stray"], "fsclip bake does not take 'stray' here (`fsclip bake --help` says what"),
        (["step"], "does not take 'step' here; did you mean --steps?"),
        (["-p", "there"], "does not take '-p' here"),
        (["--shots", "1", "b", "3"], "--shots is 'b'; give a whole number"),
    ],
)
def test_wrong_flags_are_told_in_one_line(args, said):
    with pytest.raises(UserError) as raised:
        read(*args)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "How many." not in str(raised.value)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cake:
    """Decorate."""

    of: Annotated[str, tyro.conf.Positional]
    """Which."""
    fruit: tuple[str, ...]
    """Lie on top."""
    icing: Literal["sugar", "chocolate"] = "sugar"
    candles: bool = False
    age: Literal["none"] | float = 1.0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "fsclip cake needs OF and --fruit NAME ... (`fsclip cake --help` says more)"),
        (["nut"], "fsclip cake needs --fruit NAME ... (`fsclip cake --help` says more)"),
        (["nut", "--fruit"], "--fruit needs a value: --fruit NAME ..."),
        (["nut", "--fruit", "--icing", "sugar"], "--fruit needs a value: --fruit NAME ..."),
        (
            ["nut", "--icing", "chocolat", "--fruit", "a"],
            "--icing is 'chocolat'; accepted: sugar, chocolate; did you mean chocolate?",
        ),
        (["nut", "--candles=3", "--fruit", "a"], "--candles takes no value; --no-candles switches"),
        (["nut", "--no-icing", "--fruit", "a"], "unknown flag --no-icing; did you mean --icing?"),
        (["nut", "--no-candle"], "unknown flag --no-candle; did you mean --no-candles?"),
        (["nut", "--age", "old", "--fruit", "a"], "--age is 'old'; accepted: none, NUMBER"),
        (["nut", "pie", "--fruit", "a"], "fsclip cake does not take 'pie' here"),
    ],
)
def test_what_is_missing_or_not_taken_is_told_in_one_line(args, said):
    with pytest.raises(UserError) as raised:
        parse(Cake, args, prog="fsclip cake")
    assert str(raised.value).startswith(said)
    assert "top" not in str(raised.value)


def test_help_leaves_with_zero(capsys):
    with pytest.raises(SystemExit) as leaving:
        read("--help")
    assert leaving.value.code == 0
    assert "How many." in capsys.readouterr().out


def test_configuration_file_then_flags(tmp_path):
    file = tmp_path / "bread.py"
    file.write_text("from test_cli_main import Recipe\ntrain = Recipe(steps=9)\n")
    path, flags = split_config_file([str(file), "--steps", "1"], tmp_path / "other.py")
    assert path == file
    assert flags == ["--steps", "1"]
    assert split_config_file(["--steps", "1"], file) == (file, ["--steps", "1"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train = 3", "must define `train = Recipe(...)`, found int"),
        ("other = 3", "found NoneType"),
        ("train = (", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit('text')", "fails: SystemExit: text"),
        ("import sys; sys.exit(0)", "fails: SystemExit: 0"),
        ("exit()", "fails: SystemExit"),
        ("raise KeyboardInterrupt", "fails: KeyboardInterrupt"),
        ("class Odd(BaseException):\n    def __str__(self): exit(0)\nraise Odd", "fails: Odd"),
        (
            "def f():\n    try: yield\n    finally: exit(3)\ng = f()\nnext(g)\ng.close()",
            "SystemExit",
        ),
        ("import warnings\nwarnings.warn('w')\n1 / 0", "ZeroDivisionError"),
        (OF_RECIPE + "train = Recipe(steps='7')", "`int`, got `str` - at `$.steps`"),
        (OF_RECIPE + "train = Recipe(shots=4)", "`array`, got `int` - at `$.shots`"),
    ],
)
@pytest.mark.filterwarnings("default")
def test_broken_configuration_files(tmp_path, text, said, capsys):
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(UserError) as raised:
        load_config(file, "train", Recipe)
    assert said in str(raised.value)
    assert capsys.readouterr().err == ""


def test_a_configuration_that_ends_the_program_is_one_line_of_every_command(tmp_path, capsys):
    (tmp_path / "ends.py").write_text("raise SystemExit('text')")
    for command in ("train", "eval", "suite"):
        assert cli.main([command, str(tmp_path / "ends.py")]) == 2
        told = capsys.readouterr()
        assert told.err.startswith("fsclip: error: configuration")
        assert told.err.count("\n") == 1
        assert not told.out


@pytest.mark.filterwarnings("default")
def test_a_configuration_may_warn_and_may_write_text_for_a_path(tmp_path, capsys):
    file = tmp_path / "warns.py"
    file.write_text(
        "import warnings\nwarnings.warn('old')\n" + OF_RECIPE + "train = Recipe(shots=[3])"
    )
    assert load_config(file, "train", Recipe).shots == (3,)
    assert capsys.readouterr().err == f"note: configuration {file}: old\n"
    file.write_text(OF_RECIPE + "train = Recipe(place='runs/a')")
    assert load_config(file, "train", Recipe).place == Path("runs/a")


def test_missing_configuration_file_suggests_a_neighbour(tmp_path):
    (tmp_path / "quickstart.py").write_text("")
    with pytest.raises(UserError, match="did you mean quickstart"):
        split_config_file([str(tmp_path / "quickstrat.py")], tmp_path)
    with pytest.raises(UserError, match="neither a flag nor a configuration"):
        split_config_file(["quickstart"], tmp_path)


def test_an_experiment_that_comes_along_is_found_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, flags = split_config_file(["configs/full_way.py", "--shots", "1"], Path("other.py"))
    assert path.resolve() == Path(__file__).parents[2] / "configs" / "full_way.py"
    assert flags == ["--shots", "1"]
    with pytest.raises(UserError, match=r"file configs/fullway.py; did you mean full_way"):
        split_config_file(["configs/fullway.py"], Path("other.py"))
    mine = tmp_path / "configs" / "full_way.py"
    mine.parent.mkdir()
    mine.touch()
    assert split_config_file(["configs/full_way.py"], Path("other.py"))[0].samefile(mine)


def test_exit_codes(capsys, monkeypatch):
    assert cli.main(["--version"]) == 0
    assert cli.main([]) == 0
    assert cli.main(["trian"]) == 2
    assert "did you mean train?" in capsys.readouterr().err

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fsclip_jax.cli.train.main", interrupted)
    assert cli.main(["train"]) == 130
    assert capsys.readouterr().err == "fsclip: stopped\n"

    def left(code):
        def main(_):
            raise SystemExit(code)

        return main

    for code, exit_code, told in ((None, 0, ""), (7, 7, ""), ("gone", 2, "fsclip: error: gone\n")):
        monkeypatch.setattr("fsclip_jax.cli.train.main", left(code))
        assert cli.main(["train"]) == exit_code
        assert capsys.readouterr().err == told


def test_help_is_quick_and_imports_no_jax():
    program = (
        "import sys, time; from fsclip_jax.cli.main import COMMANDS, main\n"
        "for command in COMMANDS:\n"
        "    start = time.perf_counter()\n"
        "    assert main([command, '--help']) == 0, command\n"
        "    assert 'jax' not in sys.modules, f'help of {command} imports jax'\n"
        # Far above the second that is promised: test machines are slow and shared.
        "    assert time.perf_counter() - start < 20, command\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.lower().count("usage:") == len(cli.COMMANDS)


def test_a_reader_that_leaves_early_is_no_failure():
    code = "import sys; from fsclip_jax.cli.main import main; sys.exit(main(['backbones']))"
    reader, writer = os.pipe()
    os.close(reader)
    told = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (told.returncode, told.stderr) == (0, b"")


LONG = "a" * 300
LONG_PATHS = (
    ["extract", "--data", f"folder:{LONG}", "--out", "o"],
    ["extract", "--data", f"coop:dtd@{LONG}", "--out", "o"],
    ["bank", "show", LONG],
    ["bank", "import", "--features", LONG, "--out", "o"],
    ["predict", "--support", "s", "--images", LONG],
    ["report", LONG],
    ["detect", "--scenes", LONG, "--out", "o"],
    ["export", "--checkpoint", LONG, "--out", "o"],
    ["train", f"{LONG}.py"],
)


@pytest.mark.parametrize("words", LONG_PATHS, ids=lambda words: words[0])
def test_a_name_that_no_file_can_have_is_told_in_a_line(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "ame too long" in err or "no configuration file aaa" in err


def test_a_report_of_a_fault_has_versions_and_devices(capsys):
    for words in (["--version", "--verbose"], ["--verbose", "-V"]):
        assert cli.main(words) == 0
        told = capsys.readouterr().out.splitlines()
        assert told[0] == f"fsclip {fsclip_jax.__version__}"
        versions = dict(line.split(maxsplit=1) for line in told if line.startswith("  "))
        assert versions["jax"] == jax.__version__
        assert versions["numpy"] == np.__version__
        assert any(line.startswith("devices: ") and "(cpu)" in line for line in told)


def test_python_runs_the_package_as_the_command():
    words = [sys.executable, "-m", "fsclip_jax"]
    told = subprocess.run([*words, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == fsclip_jax.__version__
    wrong = subprocess.run([*words, "trian"], capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "did you mean train?" in wrong.stderr


def test_a_home_of_nobody_is_one_line(capsys):
    assert cli.main(["train", "--data", "folder:~nobody-of-that-name/pictures"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("fsclip: error: nobody knows that home directory")
    assert told.count("\n") == 1
