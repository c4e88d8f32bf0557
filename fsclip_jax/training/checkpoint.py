"""Checkpoints of a run: the last two, from which it continues bit for bit, and the best."""

import contextlib
import errno
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from fsclip_jax.durable import storage_errors
from fsclip_jax.errors import UserError
from fsclip_jax.training.state import TrainState
from fsclip_jax.typing import Params

_FULL = re.compile(r"no space left|disk quota exceeded|file too large|resource_exhausted", re.I)


class Best(NamedTuple):
    """The parameters of the highest validation accuracy so far, on the host.

    ``step`` is -1 before the first validation; ``accuracy`` is in percent, NaN where nothing is
    held out.
    """

    step: np.ndarray
    accuracy: np.ndarray
    params: Params


class Saved(NamedTuple):
    """All that a run continues from, on the host. Its randomness follows from seed and step."""

    state: TrainState
    best: Best


def to_host(tree: Any) -> Any:
    """Copy a pytree to NumPy arrays that nothing else writes to."""
    return jax.tree.map(np.array, jax.device_get(tree))


def first_best(params: Params) -> Best:
    """Return the best before anything was validated."""
    return Best(np.array(-1, np.int32), np.array(np.nan, np.float32), to_host(params))


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Tell a full disk in one line, whichever library stumbles over it.

    Orbax logs the traceback of a failure in its threads and then raises the failure. The log is
    left out: whoever catches what is raised decides what is shown.
    """
    logger = logging.getLogger("absl")
    with storage_errors(folder), contextlib.ExitStack() as stack:
        logger.addFilter(_not_of_orbax)
        stack.callback(logger.removeFilter, _not_of_orbax)
        try:
            yield
        except OSError:
            raise
        except Exception as error:
            chain = [error, error.__cause__, error.__context__]
            if any(_FULL.search(str(link)) for link in chain if link):
                raise OSError(errno.ENOSPC, str(error)) from error
            raise


def _reserve(folder: Path, saved: Saved) -> None:
    """Fail here, in this thread, where the disk has no room for a checkpoint.

    A write that fails within Orbax is raised as well, but its threads leave loose ends that
    Python reports later, in many lines.
    """
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(saved)) + 2**16
    with tempfile.NamedTemporaryFile(dir=folder, prefix="reserve-") as file:
        for _ in range(0, size, 2**16):
            file.write(bytes(2**16))
        file.flush()
        os.fsync(file.fileno())


def _not_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


class Checkpoints:
    """The folder ``checkpoints`` of a run: ``last/STEP`` and ``best/STEP``.

    A checkpoint is written under a temporary name and renamed, so a killed run leaves only whole
    ones. ``best`` repeats what is inside ``last``, for readers who want the parameters alone.
    """

    def __init__(self, workdir: Path) -> None:
        self.folder = workdir.absolute() / "checkpoints"
        with _writing(self.folder):
            self._last = _manager(self.folder / "last", keep=2)
            self._best = _manager(self.folder / "best", keep=1)

    def latest_step(self) -> int | None:
        """Return the step of the newest checkpoint; None where there is none."""
        return self._last.latest_step()

    def save(self, saved: Saved) -> None:
        """Write a checkpoint, unless there is one of this step already.

        Raises:
            UserError: the disk is full or cannot be written. Older checkpoints are untouched.
        """
        step, best_step = int(saved.state.step), int(saved.best.step)
        with _writing(self.folder):
            if self._last.latest_step() != step:
                _reserve(self.folder, saved)
                self._last.save(step, args=ocp.args.StandardSave(saved._asdict()))
            if best_step >= 0 and self._best.latest_step() != best_step:
                for stale in self._best.all_steps():
                    if stale > best_step:  # of a future that the restart has undone
                        self._best.delete(stale)
                self._best.save(best_step, args=ocp.args.StandardSave(saved.best.params))

    def restore(self, like: Saved) -> Saved:
        """Read the newest checkpoint that can be read.

        ``like`` has the structure, shapes and types of what was saved, which comes back bit for
        bit.

        Raises:
            UserError: none can be read.
        """
        failure: Exception | None = None
        for step in sorted(self._last.all_steps(), reverse=True):
            try:
                read = self._last.restore(step, args=ocp.args.StandardRestore(like._asdict()))
            except (ValueError, KeyError, OSError) as error:
                failure = failure or error
                continue
            return Saved(**read)
        reason = str(failure).split("\n")[0] if failure else "there is none"
        raise UserError(
            f"no checkpoint in {self.folder / 'last'} can be read ({reason}): "
            "delete the folder of the run and train again"
        )

    def close(self) -> None:
        """Release the folder."""
        self._last.close()
        self._best.close()


def _manager(folder: Path, keep: int) -> ocp.CheckpointManager:
    folder.mkdir(parents=True, exist_ok=True)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
    )
    return ocp.CheckpointManager(folder, options=options)
