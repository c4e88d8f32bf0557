"""The options of a command: of every field of its configuration what help and pages say."""

import ast
import dataclasses
import inspect
import re
import shutil
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

GROUPS: Mapping[str, str] = {
    "Data": "data support images root tfds_dir features targets scenes annotations proposals "
    "support_annotations support_images val_annotations val_images val_proposals proposals_for "
    "views patches probe",
    "Model": "backbone backbones backbone_id logit_scale detector method methods fields checkpoint "
    "templates prompt_file prompts calibrate crops windows segments",
    "Task": "protocol classes class_split label_space shots shot min_shot draws write_draws seeds "
    "way query episodes EvalConfig.batch batch_size batches refine select query_split as_published",
    "Training": "steps batch learning_rate warmup_steps weight_decay clip_norm eval_every "
    "val_episodes checkpoint_every resume",
    "Answers": "top unknown suggest",
    "Output": "out overwrite workdir predictions look format dtype shard safe_csv html move_to "
    "link_to verify",
    "Running": "seed ExtractConfig.batch workers decode compute steps_per_dispatch bank_placement "
    "coordinator processes process",
}
"""Titles of help, in their order, and the fields of all commands that are told below each.

A field that means something else in one command is told there as ``CLASS.FIELD``.
"""

ARGUMENTS = "Arguments"
"""Title above what is given without a flag."""

_KINDS: Mapping[Any, str] = {Path: "PATH", int: "N", float: "X", str: "NAME"}
_WORDS: Mapping[str, str] = {
    "data": "DATA",
    "targets": "DATA",
    "out": "PATH",
    "coordinator": "HOST",
    "html": "[PATH]",
}


class Option(NamedTuple):
    """A field of a configuration as a command line has it.

    ``default`` is as it would be typed: empty for nothing, None where a value must be given.
    """

    field: str
    flags: tuple[str, ...]
    takes: str
    default: str | None
    text: str
    group: str
    choices: tuple[str, ...]


def options_of(kind: type, default: Any = None) -> list[Option]:
    """Return the options of a dataclass, those that must be given first.

    Args:
        default: an instance; its values stand in for the defaults of the fields.

    Example:
        >>> from fsclip_jax.training.config import TrainConfig
        >>> option = next(one for one in options_of(TrainConfig) if one.field == "min_shot")
        >>> option.flags, option.takes, option.default, option.group
        (('--min-shot',), 'N', '1', 'Task')
    """
    said, kinds = docstrings_of(kind), get_type_hints(kind, include_extras=True)
    groups = {name: title for title, names in GROUPS.items() for name in names.split()}
    made = [
        _option(
            field.name,
            kinds[field.name],
            field.default if default is None else getattr(default, field.name),
            said.get(field.name, ""),
            groups.get(f"{kind.__name__}.{field.name}", groups.get(field.name, "Other")),
        )
        for field in dataclasses.fields(kind)
    ]
    return sorted(made, key=lambda option: option.default is not None)


def _option(name: str, kind: Any, default: Any, text: str, group: str) -> Option:
    flag, choices = "--" + name.replace("_", "-"), choices_of(kind)
    flags: tuple[str, ...] = (flag,)
    takes = _takes(name, kind, choices)
    value = typed(default)
    if "Positional" in str(kind):
        flags, group, takes = (), ARGUMENTS, name.upper() + " ..." * takes.endswith(" ...")
    elif isinstance(default, bool):
        flags, takes, value = (flag, "--no-" + flag[2:]), "", "on" if default else "off"
    return Option(name, flags, takes, value, text, group, choices)


def _takes(name: str, kind: Any, choices: tuple[str, ...]) -> str:
    parts = get_args(kind) if get_origin(kind) not in (tuple, Literal) else ()
    kinds = [part for part in parts or (kind,) if part is not type(None)]
    many = next((part for part in kinds if get_origin(part) is tuple), None)
    item = get_args(many)[0] if many else next((k for k in kinds if k in _KINDS), str)
    item = next(iter(get_args(item)), item)  # of a number or a word, the number
    word = "|".join(choices) if choices else _WORDS.get(name, _KINDS[item])
    return f"{word} ..." if many and word[0] != "[" else word


def choices_of(kind: Any) -> tuple[str, ...]:
    """Return what a field accepts where that is a short list."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    found = next((found for part in get_args(kind) if (found := choices_of(part))), ())
    return (*found, "NUMBER") if found and float in get_args(kind) else found


def typed(default: Any) -> str | None:
    """Return a default as it would be typed; None where there is none.

    Example:
        >>> typed((1, 2)), typed(None), typed(dataclasses.MISSING)
        ('1 2', '', None)
    """
    if default is dataclasses.MISSING:
        return None
    if default is None:
        return ""
    return " ".join(map(str, default)) if isinstance(default, tuple) else str(default)


def docstrings_of(kind: type) -> dict[str, str]:
    """Return the string below each field of a dataclass, and of those that it extends."""
    said: dict[str, str] = {}
    for part in kind.__mro__[-2::-1]:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    said[name] = " ".join(text.split())
    return said


_WHOLE = re.compile(r"`[^`]{1,40}`|\(default: [^)]{1,30}\)|--[a-z-]+ [^ -]")


def wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """Break a text into lines at its spaces, but not within words, code and defaults.

    Example:
        >>> wrapped("goes with `--select val` only", 16)
        ['goes with', '`--select val`', 'only']
    """
    whole = _WHOLE.sub(lambda found: found[0].replace(" ", "\0"), text)
    lines = textwrap.wrap(
        whole, width, initial_indent=indent, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace("\0", " ") for line in lines]


def command_lines(line: str, width: int, indent: str = "") -> list[str]:
    r"""Break a command into lines that a shell takes: all but the last end in ``\``."""
    first, *rest = wrapped(line, width - len(indent) - 4)
    lines = [f"{indent}{first}", *(f"{indent}  {more}" for more in rest)]
    return [*(f"{line} \\" for line in lines[:-1]), lines[-1]]


def line_width() -> int:
    """Return how wide lines may be: as wide as the terminal, within reason; 80 in a pipe."""
    return max(40, min(100, shutil.get_terminal_size().columns))
