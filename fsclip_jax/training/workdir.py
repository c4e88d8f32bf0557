"""The folder of a run: whose it is, what it was to do, and that only one process writes it."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fsclip_jax.durable import only_writer, write_file
from fsclip_jax.errors import UserError
from fsclip_jax.json_files import read_json
from fsclip_jax.training.config import TrainConfig

CONFIG_FILE = "config.json"
LOCK_FILE = ".lock"
MOST = 2**20
"""Of the width of features, of their views and of classes."""
_FREE = ("workdir", "resume", "bank_placement", "coordinator", "processes", "process")
"""Fields that may differ between a run and its continuation."""


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Hold the folder for this process, and make it if it is missing.

    The operating system lets go of the lock when the process ends, however it ends.

    Raises:
        UserError: another process trains there, or the folder cannot be made.
    """
    with only_writer(workdir, LOCK_FILE, "is training", "--workdir"):
        yield


def run_record(config: TrainConfig) -> dict[str, Any]:
    """Return what decides the result of a run, as JSON values.

    All fields but those that say where the run and its bank are, on which hosts, and whether it is
    a continuation.

    Example:
        >>> run_record(TrainConfig(resume=True)) == run_record(TrainConfig(workdir=Path("other")))
        True
    """
    fields = dataclasses.asdict(config)
    described = {name: value for name, value in fields.items() if name not in _FREE}
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in described.items()}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def read_run(workdir: Path) -> dict[str, Any] | None:
    """Read ``config.json``, what an earlier run wrote about itself; None where there is no run.

    Raises:
        UserError: there is such a file, but not of a training run.
    """
    path = workdir / CONFIG_FILE
    try:
        run = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}): give another --workdir") from error
    parts = ("config", "adapter", "backbone", "data")
    if not isinstance(run, dict) or not all(isinstance(run.get(part), dict) for part in parts):
        raise UserError(f"{path} is not of a training run: give another --workdir")
    for name in ("dim", "views", "n_classes"):
        if type(run.get(name)) is not int or not 0 < run[name] <= MOST:
            raise UserError(
                f"{path} has {name} {run.get(name)!r:.40}; accepted are whole numbers, 1 to "
                f"{MOST}: give another --workdir"
            )
    return run


def write_run(workdir: Path, config: TrainConfig, facts: Mapping[str, Any]) -> None:
    """Write ``config.json``: the configuration, and what the run is made with.

    ``facts`` are backbone, data and the like, as JSON values.
    """
    run = {"config": run_record(config), **facts}
    write_file(workdir / CONFIG_FILE, (json.dumps(run, indent=2) + "\n").encode())


def check_same(
    workdir: Path, before: Mapping[str, Any], now: Mapping[str, Any], what: str = "config"
) -> None:
    """Refuse to continue a run with something else than it began with.

    Raises:
        UserError: naming every field that differs, with both values.

    Example:
        >>> check_same(Path("runs/a"), {"way": 5}, {"way": 5})
    """
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if names:
        changes = ", ".join(
            f"{name} {before.get(name)!r} there, {now.get(name)!r} now" for name in names
        )
        raise UserError(
            f"{workdir} holds a run with another {what} ({changes}): "
            "give another --workdir, or delete that folder"
        )
