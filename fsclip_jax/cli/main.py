"""The console command ``fsclip`` and the two scripts at the top of the repository."""

import gc
import logging
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from fsclip_jax import __version__
from fsclip_jax.cli.streams import standard_streams
from fsclip_jax.errors import UserError, first_line, say, suggestion
from fsclip_jax.stopping import Stops, ignore_stops, leave, stopping

COMMANDS = {
    "train": "meta-train an adapter",
    "eval": "compare few-shot methods",
    "suite": "compare methods on many data sets, into one table",
    "extract": "encode images into a feature bank",
    "bank": "import features, or show what is in a bank",
    "predict": "classify your pictures by a folder of labelled ones",
    "undo": "put pictures back that predict sorted into folders",
    "export": "write an adapter or a classifier for use elsewhere",
    "report": "draw the pages of a stored comparison again",
    "detect": "compare few-shot methods by the boxes they find",
    "segment": "give every pixel of scenes a class, method against method",
    "scenes": "compose an offline task for detection and segmentation",
    "methods": "list the few-shot methods",
    "backbones": "list published CLIPs to choose from",
    "datasets": "list the published data sets, and how to get them",
    "completion": "print what completes words at Tab, in bash, zsh or fish",
}
"""What each does. The command NAME is ``main(words) -> exit code`` of ``cli/NAME.py``."""


COMPUTING = ("train", "eval", "suite", "extract", "predict", "export", "detect", "segment")
"""Commands that compute by JAX, and begin by saying on what."""


def usage() -> str:
    """Return the help text of ``fsclip`` itself."""
    from fsclip_jax.cli.compiled import FLAG

    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            f"fsclip {__version__}: few-shot image classification on a frozen CLIP",
            "",
            "usage: fsclip COMMAND [...]   (fsclip COMMAND --help says more)",
            "",
            *lines,
            "",
            f"every command takes {FLAG} DIR|off: where compiled programs are kept",
            "fsclip --version --verbose tells versions and devices, for a report of a fault",
            "a published row on real data: fsclip datasets caltech101 prints its commands",
        ]
    )


def _dispatch(words: Sequence[str]) -> int:
    # Here, so that a stop is heard from the program's first moments on.
    from fsclip_jax.cli.compiled import keep_compiled, take_flag

    args, cache = take_flag(words)
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if {"-V", "--version"} & set(args[:2]) and set(args) <= {"-V", "--version", "--verbose"}:
        from fsclip_jax.cli.about import about

        say(*(about() if "--verbose" in args else [__version__]))
        return 0
    command, *rest = args
    if command not in COMMANDS:
        raise UserError(
            f"unknown command {command!r}{suggestion(command, COMMANDS)} "
            f"(there are: {', '.join(COMMANDS)})"
        )
    if not {"-h", "--help"} & set(rest):
        from fsclip_jax.pixels import hush_pillow

        keep_compiled(cache)
        hush_pillow()
        # That it finds no home for its list of fonts costs it a second, which is all.
        logging.getLogger("matplotlib").setLevel(logging.ERROR)
        # What it says of a GPU that it does not see the first lines say, with the cure.
        logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
    # Imported only when it runs: help answers at once.
    return int(import_module(f"fsclip_jax.cli.{command}").main(rest))


def _first_lines(words: Sequence[str]) -> list[str]:
    """Say on what a command computes, if it does, and what JAX does not see of this machine."""
    command = next((word for word in words if word in COMMANDS), "")
    if command not in COMPUTING or {"-h", "--help"} & set(words):
        return []
    from fsclip_jax.devices import runs_on, unseen_accelerator

    unseen = unseen_accelerator()
    return [f"fsclip: on {runs_on()}", *[f"fsclip: warning: {unseen}"] * bool(unseen)]


def _is_memory(error: Exception) -> bool:
    """Whether host or device has no memory left, as Python, NumPy and JAX say it."""
    of_jax = type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
    full = any(words in str(error) for words in ("Out of memory", "RESOURCE_EXHAUSTED"))
    return isinstance(error, MemoryError) or (of_jax and full)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command, by default that of the process's own words.

    Returns 0 when done, 2 when the input is wrong (one line on the error stream says how), 128 plus
    the number of the signal when stopped. Any other failure is a bug and shows its traceback.
    """
    words = sys.argv[1:] if argv is None else argv
    with standard_streams(lambda: _first_lines(words)) as streams, stopping() as stops:
        code, said = _outcome(words, stops)
        lost = streams.failure()
        if lost and not code:
            code, said = 2, f"error: standard output cannot be written: {lost.strerror}"
        if said:
            streams.hush()
            print(f"fsclip: {said}", file=sys.stderr)
    return code


def process(*before: str) -> int:
    """Run the command that the words of this process name, behind `before`; it then ends."""
    # What is imported stays; looking through it for garbage is a tenth of a short command.
    gc.set_threshold(20_000, 20, 20)
    code = main([*before, *sys.argv[1:]])
    if code > 128:
        leave(code)
    ignore_stops()  # the code stands, however long Python takes itself down
    return code


def _outcome(words: Sequence[str], stops: Stops) -> tuple[int, str]:
    """Run a command; return its exit code and what is left to say."""
    code, said = 0, ""
    try:
        stops.listen()
        code, said = _ended(words)
        stops.hold()
    except KeyboardInterrupt as stopped:
        stops.hold()
        code = 128 + (stops.number or signal.SIGINT)
        said = "; ".join(["stopped", *getattr(stopped, "__notes__", [])])
    except BaseException:  # whoever caught a stop may have raised something else in its place
        stops.hold()
        if not stops.number:
            raise
    by_signal = 128 + stops.number
    return (by_signal, "stopped") if stops.number and code != by_signal else (code, said)


def _ended(words: Sequence[str]) -> tuple[int, str]:
    try:
        return _dispatch(words), ""
    except UserError as error:
        return 2, f"error: {error}"
    except OSError as error:
        if error.filename is None:
            raise
        # A name that no file can have, a folder that one may not enter: wrong whatever asks for it.
        line = UserError(f"{error.filename}: {error.strerror}; give another path")
        return 2, f"error: {line}"
    except Exception as error:
        if isinstance(error, RuntimeError) and "home directory" in str(error):  # pathlib's, of ~
            return 2, "error: nobody knows that home directory: set HOME, or give a path without ~"
        if not _is_memory(error):
            raise
        return 2, (
            f"error: there is not enough memory ({first_line(error)}); ask for less at once "
            "(--batch, --views, --query, --shots), or give smaller data"
        )
    except SystemExit as leaving:
        code = leaving.code
        return (code or 0, "") if code is None or isinstance(code, int) else (2, f"error: {code}")


if __name__ == "__main__":
    sys.exit(process())
