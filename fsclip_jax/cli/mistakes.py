"""What is wrong with the words of a command, in one line."""

import re
from collections.abc import Mapping, Sequence

from fsclip_jax.cli.compiled import FLAG
from fsclip_jax.cli.options import Option
from fsclip_jax.errors import suggestion

_SHORT = re.compile(r"-[A-Za-z]")
"""No flag of one letter is known, and no value begins like one."""


def unknown_flag(options: Sequence[Option], args: Sequence[str], prog: str) -> str | None:
    """Name the first word that looks like a flag and is none; None where there is none.

    Example:
        >>> unknown_flag([], ["--seed", "3"], "fsclip x")
        'unknown flag --seed (`fsclip x --help` lists them)'
    """
    known = [flag for option in options for flag in option.flags]
    for word in args:
        flag = _flag(word)
        if word.startswith("--") and flag not in (*known, "--help"):
            near = suggestion(flag, [*known, FLAG])
            return f"unknown flag {word.split('=', 1)[0]}{near} (`{prog} --help` lists them)"
    return None


def mistake(options: Sequence[Option], args: Sequence[str], prog: str) -> str:
    """Say what is wrong with words that could not be read; their flags are known ones."""
    flags = {flag: option for option in options for flag in option.flags}
    left = [option for option in options if not option.flags]
    given: set[str] = set()
    words = list(args)
    while words:
        word = words.pop(0)
        option = flags.get(_flag(word)) if word.startswith("--") else None
        if option is None:
            if not left or _SHORT.match(word):
                return _stray(word, flags, prog)
            values, option = [word], left[0] if left[0].takes.endswith("...") else left.pop(0)
        elif "=" in word:
            values = [word.split("=", 1)[1]]
            if not option.takes:
                return f"{option.flags[0]} takes no value; {option.flags[1]} switches it off"
        else:
            many = option.takes.endswith("...")
            most = len(words) if many else min(1, len(words)) if option.takes else 0
            values = _until_flag(words[:most], flags)
            if not values and option.takes and not (many and option.default is not None):
                return f"{option.flags[0]} needs a value: {option.flags[0]} {option.takes}"
            del words[: len(values)]
        given.add(option.field)
        wrong = next(filter(None, (_wrong(option, value) for value in values)), None)
        if wrong:
            return wrong
    missing = [one for one in options if one.default is None and one.field not in given]
    needs = " and ".join(" ".join([*one.flags[:1], one.takes]) for one in missing)
    ask = f"`{prog} --help` says more"
    return f"{prog} needs {needs} ({ask})" if missing else f"{prog} cannot read its words ({ask})"


def _flag(word: str) -> str:
    """A word as its flag is listed: without a value, hyphens for underscores."""
    name = word.split("=", 1)[0]
    return "--" + name[2:].replace("_", "-")


def _until_flag(words: Sequence[str], flags: Mapping[str, Option]) -> list[str]:
    ends = (
        _SHORT.match(word) or (word.startswith("--") and _flag(word) in flags) for word in words
    )
    return list(words[: next((at for at, end in enumerate(ends) if end), len(words))])


def _stray(word: str, flags: Mapping[str, Option], prog: str) -> str:
    # Nearer than elsewhere: most words that are one too many are meant for no flag.
    near = suggestion(
        word.lstrip("-"), [flag[2:] for flag in flags if flag[2:3] == word.lstrip("-")[:1]]
    )
    near = near.replace("mean ", "mean --")
    return f"{prog} does not take {word!r} here{near} (`{prog} --help` says what it takes)"


def _wrong(option: Option, value: str) -> str | None:
    """Say why a value cannot be taken, if so."""
    name = option.flags[0] if option.flags else option.takes
    kind = option.takes.removesuffix(" ...")
    words = [word for word in option.choices if word != "NUMBER"]
    if value in words or (option.default == "" and value == "None"):
        return None
    if option.choices and (len(words) == len(option.choices) or not _reads(float, value)):
        return f"{name} is {value!r}; accepted: {', '.join(option.choices)}" + suggestion(
            value, words
        )
    if kind == "N" and not _reads(int, value):
        return f"{name} is {value!r}; give a whole number"
    if kind == "X" and not _reads(float, value):
        return f"{name} is {value!r}; give a number"
    return None


def _reads(kind: type, value: str) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    return True
