"""Command lines: an optional configuration file, then flags that override its fields."""

import contextlib
import dataclasses
import io
import math
import os
import runpy
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from fsclip_jax.cli.help_text import help_text
from fsclip_jax.cli.mistakes import mistake, unknown_flag
from fsclip_jax.cli.options import options_of
from fsclip_jax.errors import UserError, suggestion, tell
from fsclip_jax.stopping import Stopped

Config = TypeVar("Config")

_MOST_ELSE = 2**31 - 1
_MOST: Mapping[str, int] = {
    "seed": 2**63 - 1,
    "seeds": 10_000,
    "views": 1_000,
    "workers": 1_024,
    "processes": 65_536,
    "windows": 65_535,
    "query": 100_000,
    "batch": 1_000_000,
    "images": 1_000_000,
    "episodes": 10_000_000,
    "val_episodes": 1_000_000,
    "learning_rate": 1_000,
    "weight_decay": 1_000,
}
"""The largest number that a field of a command takes."""


def parse(
    kind: type[Config],
    args: Sequence[str],
    *,
    prog: str,
    default: Config | None = None,
) -> Config:
    """Turn flags into a configuration; what is wrong with them is told in one line.

    ``default`` has the values of the fields that no flag names; ``prog`` is the command. The first
    line of the docstring of ``kind`` says in the help text what the command does.

    Raises:
        UserError: an unknown flag (with the nearest known one) or a value of the wrong type.
    """
    command = prog.removeprefix("fsclip ")
    prog = called_as(command) if command != prog else prog
    if {"-h", "--help"} & set(args):
        print(help_text(kind, command, prog, default))
        raise SystemExit(0)
    options = options_of(kind, default)
    if unknown := unknown_flag(options, args, prog):
        raise UserError(unknown)
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            filled: Config = tyro.cli(  # type: ignore[assignment]
                kind,
                args=list(args),
                prog=prog,
                default=default,
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as leaving:
        if leaving.code in (0, None):
            raise
        raise UserError(mistake(options, args, prog)) from None
    for option in options:
        if option.default is None and getattr(filled, option.field) == ():
            flag = option.flags[0]
            raise UserError(f"{flag} needs a value: {flag} {option.takes}")
    _require_bounded(filled)
    return filled


def _require_bounded(config: Any) -> None:
    """Refuse numbers that no memory or no time is enough for; least values are the commands'."""
    for field in dataclasses.fields(config):
        given = getattr(config, field.name)
        for value in given if isinstance(given, tuple) else (given,):
            most = _MOST.get(field.name, _MOST_ELSE if isinstance(value, int) else math.inf)
            if isinstance(value, int | float) and value > most:
                flag = f"--{field.name.replace('_', '-')}"
                raise UserError(f"{flag} is {str(value)[:40]}; give {most:,} or less")


def split_config_file(args: Sequence[str], fallback: Path) -> tuple[Path, list[str]]:
    """Separate the configuration file, ``fallback`` if none is named, from the flags behind it.

    ``configs/NAME.py`` is the one that comes along where there is none in the folder one is in.

    Raises:
        UserError: the first word is neither a flag nor an existing ``.py`` file.
    """
    if not args or args[0].startswith("-"):
        return fallback, list(args)
    path = Path(args[0])
    if path.parent == Path("configs"):
        path = _bundled(path.stem) if path.suffix == ".py" else path
    if path.suffix != ".py":
        raise UserError(
            f"{args[0]!r} is neither a flag nor a configuration file: "
            "give a .py file first, then --flags"
        )
    if not os.path.isfile(path):  # Path's own raises at a name that is too long
        place = path.parent
        if place == Path("configs") and not place.is_dir():
            place = _bundled("quickstart").parent
        near = sorted(p.stem for p in place.glob("*.py")) if os.path.isdir(place) else []
        raise UserError(
            f"no configuration file {path}{suggestion(path.stem, near)} "
            f"({path.parent or '.'} holds: {', '.join(near) or 'none'})"
        )
    return path, list(args[1:])


def load_config(path: Path, part: str, kind: type[Config]) -> Config:
    """Read one part of an experiment's configuration file, such as its ``train``.

    A configuration is Python that the user wrote or chose, run as such. Nothing else that is
    read from a user is ever executed.

    Raises:
        UserError: the file fails to run, ends the program, or does not define the part with that
            type and fields of their types.
    """
    try:
        with warnings.catch_warnings(record=True) as caught:
            found = runpy.run_path(str(path)).get(part)
            config = _checked(found, kind) if isinstance(found, kind) else None
    except Stopped:
        raise
    except BaseException as error:  # SystemExit too: what a file says ends no command in silence
        raise UserError(f"configuration {path} fails: {_described(error)}") from error
    if config is None:
        raise UserError(
            f"configuration {path} must define `{part} = {kind.__name__}(...)`, "
            f"found {type(found).__name__}"
        )
    tell(f"configuration {path}: {warning.message}" for warning in caught)
    return config


def _checked(config: Config, kind: type[Config]) -> Config:
    """The same with every field as its type, which a dataclass does not look at."""
    import msgspec

    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return msgspec.convert(fields, kind, dec_hook=lambda kind, value: kind(value))


def _described(error: BaseException) -> str:
    """Kind and text of an error, whose text may be Python of the user's that fails in turn."""
    try:
        text = " ".join(str(error).split())
    except Stopped:
        raise
    except BaseException:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def parse_experiment(
    kind: type[Config], part: str, args: Sequence[str], fallback: str = "quickstart"
) -> tuple[Config, str]:
    """Read ``[CONFIG.py] [--field VALUE ...]``, of the bundled file ``fallback`` if none is named.

    The name of the file is returned too, empty where none is named: the run's folder is called
    after it, else after the data.

    Raises:
        UserError: a wrong flag, or the file is not there, fails or lacks the part.
    """
    none = _bundled(fallback)
    path, flags = split_config_file(args, none)
    prog = f"fsclip {'eval' if part == 'evaluate' else part}"
    config = parse(kind, flags, prog=prog, default=load_config(path, part, kind))
    return config, "" if path is none else path.stem


def _bundled(name: str) -> Path:
    """A configuration that comes along: of the folder one is in, the checkout, or the package."""
    package = Path(__file__).parents[1]
    places = [Path("configs"), package.parent / "configs", package / "assets" / "configs"]
    files = [place / f"{name}.py" for place in places]
    # Path's own raises at a name that is too long.
    return next((file for file in files if os.path.isfile(file)), files[0])


def command_line() -> str:
    """Return the command line of this process, as one would type it again."""
    name = Path(sys.argv[0]).name
    start = {"eval.py": "python eval.py", "train.py": "python train.py"}.get(name) or called_as("")
    return " ".join([start.strip(), *map(shlex.quote, sys.argv[1:])])


def called_as(command: str) -> str:
    """Return the words that run a command in the way in which this process was called.

    Example:
        >>> called_as("eval")
        'fsclip eval'
    """
    called = Path(sys.argv[0])
    if called.name in ("train.py", "eval.py"):
        if command in ("train", "eval"):
            return f"python {called.with_name(command)}.py"
        return f"python -m fsclip_jax {command}"
    # As Python itself names the module that it runs.
    if called.name in ("__main__.py", "main.py") and "fsclip_jax" in called.parts:
        return f"python -m fsclip_jax {command}"
    return f"fsclip {command}"
