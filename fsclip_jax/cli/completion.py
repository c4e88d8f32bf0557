"""``fsclip completion``: what completes commands, options and their values at Tab."""

import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from fsclip_jax.cli.backbones import BackbonesConfig
from fsclip_jax.cli.bank import ImportConfig, ShowConfig
from fsclip_jax.cli.compiled import FLAG
from fsclip_jax.cli.datasets import DatasetsConfig
from fsclip_jax.cli.export import ExportConfig
from fsclip_jax.cli.extract import ExtractConfig
from fsclip_jax.cli.main import COMMANDS
from fsclip_jax.cli.methods import MethodsConfig
from fsclip_jax.cli.options import Option, options_of
from fsclip_jax.cli.parsing import parse
from fsclip_jax.cli.predict import PredictConfig
from fsclip_jax.cli.report import ReportConfig
from fsclip_jax.cli.scenes import ScenesConfig
from fsclip_jax.cli.undo import UndoConfig
from fsclip_jax.detection.config import DetectConfig
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.segmentation.config import SegmentConfig
from fsclip_jax.suite.config import SuiteConfig
from fsclip_jax.training.config import TrainConfig


@dataclass(frozen=True)
class CompletionConfig:
    """Print what completes commands, options and values at Tab, to be kept where a shell looks."""

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """The shell: bash, zsh (to be kept as `_fsclip` in a folder of `$fpath`) or fish."""


CONFIGS: Mapping[str, type] = {
    "train": TrainConfig,
    "eval": EvalConfig,
    "suite": SuiteConfig,
    "extract": ExtractConfig,
    "bank import": ImportConfig,
    "bank show": ShowConfig,
    "predict": PredictConfig,
    "undo": UndoConfig,
    "export": ExportConfig,
    "report": ReportConfig,
    "detect": DetectConfig,
    "segment": SegmentConfig,
    "scenes": ScenesConfig,
    "methods": MethodsConfig,
    "backbones": BackbonesConfig,
    "datasets": DatasetsConfig,
    "completion": CompletionConfig,
}
"""The commands with flags, and the configuration that each of them fills."""

WITH_FILE = ("train", "eval", "suite")
"""Commands whose first word may be a configuration file."""


_BASH_BEGIN = """\
# fsclip at Tab, in bash
_fsclip() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}"
  local flags="" many="" alone="" words="" flag="" at=1 i
  if [[ $COMP_CWORD == 1 ]]; then words="{first}"
  elif [[ $command == bank && $COMP_CWORD == 2 ]]; then words="{bank}"
  else
    if [[ $command == bank ]]; then command="bank ${{COMP_WORDS[2]}}"; fi
    case "$command" in"""

_BASH_FLAG = """\
    esac
    for ((i = 2; i < COMP_CWORD; i++)); do
      if [[ ${COMP_WORDS[i]} == --* ]]; then flag="${COMP_WORDS[i]}"; at=$i; fi
    done
    if [[ " $alone " == *" $flag "* ]]; then flag=""
    elif [[ " $many " != *" $flag "* && $at != $((COMP_CWORD - 1)) ]]; then flag=""
    fi
    case "$command:$flag" in"""

_BASH_END = """\
    esac
    if [[ $cur == -* ]]; then words="$flags"; fi
  fi
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _fsclip fsclip"""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    shell = parse(CompletionConfig, argv, prog="fsclip completion").shell
    print("\n".join({"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()))
    return 0


def _values(command: str, option: Option) -> tuple[str, ...]:
    """What an option may be, where that is a list; files are the shell's own affair."""
    from fsclip_jax.adapters.catalog import ADAPTERS
    from fsclip_jax.clip.published import KNOWN
    from fsclip_jax.data.catalog import KNOWN_SETS

    if option.choices:
        return tuple(word for word in option.choices if word != "NUMBER")
    if option.field in ("methods", "method") or command == "methods":
        return (*ADAPTERS, *["all"] * (option.field == "methods"))
    if option.field in ("backbone", "backbones"):
        return tuple(model.id for model in KNOWN)
    sets = command == "datasets" and not option.flags
    return tuple(known.name for known in KNOWN_SETS) if sets else ()


def _next(command: str) -> list[str]:
    """The words that may follow a command: `bank` has commands of its own."""
    return [name.removeprefix(f"{command} ") for name in CONFIGS if name.startswith(f"{command} ")]


def _flags(options: Sequence[Option]) -> list[str]:
    return [*(flag for option in options for flag in option.flags), FLAG, "--help"]


def _bash() -> Iterator[str]:
    yield _BASH_BEGIN.format(
        first=" ".join([*COMMANDS, "--help", "--version"]), bank=" ".join(_next("bank"))
    )
    places: dict[str, list[str]] = {}  # what may come there, and where that is
    for command, config in CONFIGS.items():
        options = options_of(config)
        many = [flag for one in options for flag in one.flags if one.takes.endswith("...")]
        alone = [flag for one in options for flag in one.flags if not one.takes]
        yield f'      "{command}") flags="{" ".join(_flags(options))}"'
        yield f'        many="{" ".join(many)}" alone="{" ".join(alone)}" ;;'
        for option in options:
            place = f'"{command}:{"".join(option.flags[:1])}"'
            places.setdefault(" ".join(_values(command, option)), []).append(place)
        if all(option.flags for option in options) and command not in WITH_FILE:
            places.setdefault("$flags", []).append(f'"{command}:"')
    yield _BASH_FLAG
    places.pop("", None)
    yield from (f'      {"|".join(where)}) words="{words}" ;;' for words, where in places.items())
    yield _BASH_END


def _quoted(text: str, special: str) -> str:
    return "".join(f"\\{letter}" if letter in special else letter for letter in text)


def _short(text: str) -> str:
    """How what help says begins, without marks of code."""
    sentence = text.replace("`", "").partition(". ")[0].rstrip(".")
    return textwrap.shorten(sentence, 60, placeholder=" ...")


def _zsh() -> Iterator[str]:
    yield "#compdef fsclip"
    yield "_fsclip() {"
    yield "  local -a names"
    yield "  if (( CURRENT == 2 )); then"
    told = (shlex.quote(f"{name}:{_quoted(text, ':')}") for name, text in COMMANDS.items())
    yield f"    names=({' '.join(told)})"
    yield "    _describe command names; return"
    yield "  fi"
    yield "  shift words; (( CURRENT-- ))"
    yield "  if [[ $words[1] == bank ]]; then"
    yield f"    if (( CURRENT == 2 )); then compadd {' '.join(_next('bank'))}; return; fi"
    yield '    shift words; (( CURRENT-- )); words[1]="bank $words[1]"'
    yield "  fi"
    yield '  case "$words[1]" in'
    for command, config in CONFIGS.items():
        yield f'    "{command}") _arguments \\'
        for option in options_of(config):
            yield from (f"      {shlex.quote(spec)} \\" for spec in _zsh_specs(command, option))
        if command in WITH_FILE:
            yield "      '1:configuration:_files -g \"*.py\"' \\"
        yield f"      '{FLAG}[where compiled programs are kept]:folder:_files -/' '--help' ;;"
    yield "  esac"
    yield "}"
    yield "if [[ $zsh_eval_context[-1] == loadautofunc ]]"
    yield 'then _fsclip "$@"; else compdef _fsclip fsclip; fi'


def _zsh_specs(command: str, option: Option) -> Iterator[str]:
    values = " ".join(_quoted(value, ":") for value in _values(command, option))
    does = (
        f"({values})" if values else "_files" if "PATH" in option.takes or not option.flags else ""
    )
    does = does or ("_files" if option.takes.startswith("DATA") else " ")
    many = option.takes.endswith("...")
    if not option.flags:
        yield f"{'*' if many else '1'}:{option.field}:{does}"
    for flag in option.flags:
        spec = f"{flag}[{_quoted(_short(option.text), '[]:')}]"
        takes = _quoted(option.takes.split()[0], ":|") if option.takes else ""
        yield spec if not takes else f"{spec}:{'*-*:' * many}{option.field}:{does}"


def _fish() -> Iterator[str]:
    yield "# fsclip at Tab, in fish"
    yield "complete -c fsclip -f"
    for name, text in COMMANDS.items():
        yield f"complete -c fsclip -n __fish_use_subcommand -a {name} -d {shlex.quote(text)}"
    for command, config in CONFIGS.items():
        seen = " ".join(f"__fish_seen_subcommand_from {word}; and" for word in command.split())
        where = f"complete -c fsclip -n {shlex.quote(seen.removesuffix('; and'))}"
        yield f"{where} -l {FLAG[2:]} -r -F -d 'where compiled programs are kept'"
        for option in options_of(config):
            values = shlex.quote(" ".join(_values(command, option)))
            takes = f"-x -a {values}" if values != "''" else "-r -F"
            if not option.flags:
                yield f"{where} {takes[3:]}"
            for flag in option.flags:
                does = f" {takes}" if option.takes else ""
                yield f"{where} -l {flag[2:]}{does} -d {shlex.quote(_short(option.text))}"
        if command in WITH_FILE:
            first = shlex.quote(
                f"{seen.removesuffix('; and')}; and test (count (commandline -opc)) -eq 2"
            )
            yield f"complete -c fsclip -n {first} -F"
    words = shlex.quote(
        "__fish_seen_subcommand_from bank; and not __fish_seen_subcommand_from import show"
    )
    yield f"complete -c fsclip -n {words} -a {shlex.quote(' '.join(_next('bank')))}"
