"""Help: options in groups, whole lines at any width, examples that the commands take."""

import dataclasses
import importlib.util
import shlex
from pathlib import Path
from typing import Annotated, Literal

import pytest
import tyro

from fsclip_jax.cli.help_text import EXAMPLES, help_text
from fsclip_jax.cli.options import GROUPS, options_of, wrapped
from fsclip_jax.cli.parsing import parse

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
make_docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make_docs)
COMMANDS = make_docs.COMMANDS
WITH_CONFIGURATION = ("train", "eval", "suite")


def of(command, width=80):
    kind = COMMANDS[command]
    default = kind() if command in WITH_CONFIGURATION else None
    return help_text(kind, command, f"fsclip {command}", default, width)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_a_group_and_told_whole(command):
    names = [name for group in GROUPS.values() for name in group.split()]
    assert len(names) == len(set(names))
    for option in options_of(COMMANDS[command]):
        assert option.group != "Other", f"{option.field} needs a group in cli/options.py"
    for width in (40, 80, 100):
        told = of(command, width)
        assert max(map(len, told.splitlines())) <= max(width, 72 if width == 40 else 0)
        words = told.split()
        assert "None|" not in told
        assert "default: )" not in told
        assert "default: None" not in told
        for option in options_of(COMMANDS[command]):
            flags = [f"{flag}," for flag in option.flags[:-1]] + list(option.flags[-1:])
            assert set(flags) <= set(words)
            assert set(option.text.split()) <= set(words), "a word is cut"


def test_a_batch_stands_where_it_belongs_in_each_command():
    """Episodes of a training step, queries that are answered together, images of one pass."""
    groups = {
        command: next(o.group for o in options_of(COMMANDS[command]) if o.field == "batch")
        for command in ("train", "eval", "extract")
    }
    assert groups == {"train": "Training", "eval": "Task", "extract": "Running"}


@pytest.mark.parametrize("command", COMMANDS)
def test_two_examples_are_taken_by_the_parser(command):
    assert len(EXAMPLES[command]) == 2
    shown = " ".join(of(command).replace("\\\n", " ").split())
    for example in EXAMPLES[command]:
        assert f"fsclip {example}" in shown
        assert example.startswith(f"{command} ") or example == command
        words = shlex.split(example.removeprefix(command).partition(" > ")[0])
        kind, default = COMMANDS[command], None
        if command in WITH_CONFIGURATION:
            default = kind()
            words = words[bool(words) and words[0].endswith(".py") :]
        assert parse(kind, words, prog=f"fsclip {command}", default=default)


@dataclasses.dataclass(frozen=True)
class Every:
    """Take every kind of value."""

    place: Annotated[Path, tyro.conf.Positional]
    """Where."""
    out: Path
    """Goes where."""
    seed: int | None = None
    """Begins."""
    shots: tuple[int, ...] = (1, 2)
    crops: tuple[float, ...] = ()
    unknown: Literal["auto"] | float = 0.5
    resume: bool = False
    classes: Literal["all", "base"] = "all"


def test_what_an_option_takes_and_what_it_is_unless_given():
    told = {one.field: (one.flags, one.takes, one.default) for one in options_of(Every)}
    assert told == {
        "place": ((), "PLACE", None),
        "out": (("--out",), "PATH", None),
        "seed": (("--seed",), "N", ""),
        "shots": (("--shots",), "N ...", "1 2"),
        "crops": (("--crops",), "X ...", ""),
        "unknown": (("--unknown",), "auto|NUMBER", "0.5"),
        "resume": (("--resume", "--no-resume"), "", "off"),
        "classes": (("--classes",), "all|base", "all"),
    }
    assert help_text(Every, "every", "fsclip every", width=80).splitlines()[:9] == [
        "usage: fsclip every PLACE --out PATH [OPTIONS]",
        "",
        "Take every kind of value.",
        "",
        "Arguments:",
        "  PLACE                   Where. (required)",
        "",
        "Model:",
        "  --crops X ...",
    ]


def test_values_of_a_configuration_are_the_defaults_that_help_names():
    kind = COMMANDS["train"]
    told = help_text(kind, "train", "fsclip train", kind(steps=7), 80)
    assert "Optimiser steps in all. (default: 7)" in told
    assert "usage: fsclip train [CONFIG.py] [OPTIONS]" in told


def test_a_flag_and_its_value_stay_together():
    assert wrapped("as with `--select val` here", 14) == ["as with", "`--select val`", "here"]
    assert wrapped("a b --out c", 8) == ["a b", "--out c"]
