"""The one exception that means: the user's input is wrong, not the program."""

import difflib
import importlib
import sys
from collections.abc import Iterable, Sequence

from fsclip_jax.printable import printable


class UserError(ValueError):
    """Wrong input from the user, told in one line.

    The commands print the message and leave with exit code 2. The line says what was
    given, what is accepted and what to do about it. Names in it are made printable.
    """

    def __init__(self, line: object = "") -> None:
        super().__init__(printable(" ".join(str(line).split())))


def suggestion(given: str, accepted: Iterable[str]) -> str:
    """Return ``; did you mean X?`` when something accepted resembles what was given.

    Example:
        >>> suggestion("tip_adpter", ["zero_shot", "tip_adapter"])
        '; did you mean tip_adapter?'
    """
    close = difflib.get_close_matches(given, list(accepted), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def tell(notes: Iterable[str]) -> None:
    """Write notes to the error stream, a line each."""
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)


def say(*lines: str) -> None:
    """Write lines to the output, their names made printable."""
    for line in lines:
        print(printable(line))


def some(names: Sequence[str], most: int = 5) -> str:
    """Name the first few of many.

    Example:
        >>> some(["a", "b", "c", "d", "e", "f", "g"])
        'a, b, c, d, e and 2 more'
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def first_line(error: BaseException) -> str:
    r"""Say in a line what an error of somebody else's says, or what kind it is if it says nothing.

    Some repeat all that they were given: a line has room for 300 characters.

    Example:
        >>> first_line(ValueError("too short\nsee the manual")), first_line(KeyError())
        ('too short', 'KeyError')
    """
    line = str(error).partition("\n")[0] or type(error).__name__
    return line if len(line) <= 300 else f"{line[:200]} ... {line[-95:]}"


def require_extra(modules: Iterable[str], extra: str | None, what: str) -> None:
    """Import modules that come with an extra of this package, before any work is done.

    Args:
        extra: none if another package that is always there brings them.
        what: needs them; the line begins with it.

    Raises:
        UserError: one is missing or broken.
    """
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # of another NumPy, or damaged: it may raise anything
            package = name.partition(".")[0]
            source = f"'fsclip-jax[{extra}]'" if extra else package
            raise UserError(
                f"{what} needs the package {package} ({first_line(error)}); "
                f"install it with: pip install {source}"
            ) from error
