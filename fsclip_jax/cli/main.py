"""The console command ``fsclip`` and the two scripts at the top of the repository."""

import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from fsclip_jax import __version__
from fsclip_jax.cli.compiled import FLAG, keep_compiled, take_flag
from fsclip_jax.errors import UserError, suggestion

SUMMARY = {
    "train": "meta-train an adapter",
    "eval": "compare few-shot methods",
    "suite": "compare methods on many data sets, into one table",
    "extract": "encode images into a feature bank",
    "bank": "import features, or show what is in a bank",
    "backbones": "list published CLIPs to choose from",
    "predict": "classify your pictures by a folder of labelled ones",
    "export": "write an adapter or a classifier for use elsewhere",
    "report": "draw the report again from report.json",
    "datasets": "list the published data sets, and how to get them",
    "detect": "compare few-shot methods by the boxes they find",
    "scenes": "compose an offline task for detection and segmentation",
    "segment": "give every pixel of scenes a class, method against method",
}


def _default_config(name: str = "quickstart") -> Path:
    """A configuration that comes along: of the folder one is in, the checkout, or the package."""
    package = Path(__file__).parents[1]
    places = [Path("configs"), package.parent / "configs", package / "assets" / "configs"]
    files = [place / f"{name}.py" for place in places]
    return next((file for file in files if file.is_file()), files[0])


def _train(args: Sequence[str]) -> int:
    from fsclip_jax.cli.parsing import load_config, parse, split_config_file
    from fsclip_jax.training.config import TrainConfig

    path, flags = split_config_file(args, _default_config())
    config = parse(
        TrainConfig,
        flags,
        prog="fsclip train",
        description="Meta-train an adapter on episodes: [CONFIG.py] [--field VALUE ...]",
        default=load_config(path, "train", TrainConfig),
    )
    from fsclip_jax.cli.train import run

    return run(config, path.stem)


def _eval(args: Sequence[str]) -> int:
    from fsclip_jax.cli.parsing import load_config, parse, split_config_file
    from fsclip_jax.evaluation.config import EvalConfig

    path, flags = split_config_file(args, _default_config())
    config = parse(
        EvalConfig,
        flags,
        prog="fsclip eval",
        description="Compare few-shot methods: [CONFIG.py] [--field VALUE ...]",
        default=load_config(path, "evaluate", EvalConfig),
    )
    from fsclip_jax.cli.eval import run

    return run(config, path.stem)


def _suite(args: Sequence[str]) -> int:
    from fsclip_jax.cli.parsing import load_config, parse, split_config_file
    from fsclip_jax.suite.config import SuiteConfig

    path, flags = split_config_file(args, _default_config("emoji_suite"))
    config = parse(
        SuiteConfig,
        flags,
        prog="fsclip suite",
        description="Compare methods on many data sets: [CONFIG.py] [--field VALUE ...]",
        default=load_config(path, "suite", SuiteConfig),
    )
    from fsclip_jax.cli.suite import run

    return run(config, path.stem)


def _command(name: str) -> Callable[[Sequence[str]], int]:
    """The command in ``cli/NAME.py``, which is imported only when it runs."""

    def run(args: Sequence[str]) -> int:
        return int(import_module(f"fsclip_jax.cli.{name}").main(list(args)))

    return run


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    **{name: _command(name) for name in SUMMARY},
    "train": _train,
    "eval": _eval,
    "suite": _suite,
}


def usage() -> str:
    """Return the help text of ``fsclip`` itself."""
    width = max(map(len, SUMMARY))
    lines = [f"  {name:<{width}}  {text}" for name, text in SUMMARY.items()]
    return "\n".join(
        [
            f"fsclip {__version__}: few-shot image classification on a frozen CLIP",
            "",
            "usage: fsclip COMMAND [...]   (fsclip COMMAND --help says more)",
            "",
            *lines,
            "",
            f"every command takes {FLAG} DIR|off: where compiled programs are kept",
            "a published row on real data: fsclip datasets caltech101 prints its commands",
        ]
    )


def _dispatch(words: Sequence[str]) -> int:
    args, cache = take_flag(words)
    if not args or args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if args[0] in ("-V", "--version"):
        print(__version__)
        return 0
    command, *rest = args
    if command not in COMMANDS:
        raise UserError(
            f"unknown command {command!r}{suggestion(command, COMMANDS)} "
            f"(there are: {', '.join(COMMANDS)})"
        )
    if not {"-h", "--help"} & set(rest):
        keep_compiled(cache)
    return COMMANDS[command](rest)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: the words after ``fsclip``; those of the process if not given.

    Returns:
        0 when done, 2 when the input is wrong (one line on the error stream says how), 130 when
        interrupted. Any other failure is a bug and shows its traceback.
    """
    try:
        code = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
        return code
    except UserError as error:
        print(f"fsclip: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("fsclip: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
