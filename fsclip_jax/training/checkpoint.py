"""Checkpoints of a run: the last two, from which it continues bit for bit, and the best."""

import base64
import contextlib
import errno
import gc
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from fsclip_jax.durable import storage_errors, write_file
from fsclip_jax.errors import UserError, first_line, tell
from fsclip_jax.training.state import TrainState
from fsclip_jax.typing import Params

_FULL = re.compile(r"no space left|disk quota exceeded|file too large|resource_exhausted", re.I)

_TREE = "_METADATA"
"""Orbax's file of the structure of a checkpoint."""


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


def packed(saved: Saved) -> str:
    """Return the bytes of every array as text, for a process that knows their shapes."""
    return base64.b64encode(b"".join(leaf.tobytes() for leaf in jax.tree.leaves(saved))).decode()


def unpacked(text: str, like: Saved) -> Saved:
    """Return what was packed, bit for bit."""
    data, leaves, at = base64.b64decode(text), [], 0
    for leaf in jax.tree.leaves(like):
        array = np.frombuffer(data, leaf.dtype, leaf.size, at).reshape(leaf.shape)
        leaves.append(array.copy())
        at += array.nbytes
    found: Saved = jax.tree.unflatten(jax.tree.structure(like), leaves)
    return found


def first_best(params: Params) -> Best:
    """Return the best before anything was validated."""
    return Best(np.array(-1, np.int32), np.array(np.nan, np.float32), to_host(params))


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Tell a full disk in one line, whichever library stumbles over it.

    Orbax logs the traceback of a failure in its threads and then raises the failure. The log is
    left out: whoever catches what is raised decides what is shown.
    """
    with storage_errors(folder), _hushed("absl"):
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


@contextlib.contextmanager
def _hushed(*names: str) -> Iterator[None]:
    """Leave out what Orbax logs; asyncio logs what failed when its tasks are collected."""

    def keep(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname and record.name != "asyncio"

    loggers = [logging.getLogger(name) for name in names]
    for logger in loggers:
        logger.addFilter(keep)
    try:
        yield
    finally:
        gc.collect()
        for logger in loggers:
            logger.removeFilter(keep)


def _drop_stragglers() -> None:
    """Drop what the readers of other arrays say to the loop that the failure of one has closed.

    They do so from threads of their own, whenever they are done: from now on, for there is no
    moment to stop.
    """
    hook = sys.unraisablehook

    def keep(lost: "sys.UnraisableHookArgs") -> None:
        if str(lost.exc_value) != "Event loop is closed":
            hook(lost)

    sys.unraisablehook = keep


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
        """Read the newest checkpoint that can be read; newer ones are set aside, and told.

        ``like`` has the structure, shapes and types of what was saved, which comes back bit for
        bit.

        Raises:
            UserError: none can be read. All are left as they are.
        """
        failures: dict[int, str] = {}
        _drop_stragglers()
        for step in sorted(self._last.all_steps(), reverse=True):
            try:
                with _hushed("asyncio", "absl"):
                    saved = self._read(step, like)
            except (
                Exception
            ) as error:  # whatever Orbax and what is below it raise for a damaged file
                failures[step] = first_line(error)[:120]
                continue
            self._set_aside(failures, step)
            return saved
        reasons = "; ".join(f"step {step}: {why}" for step, why in failures.items())
        raise UserError(
            f"no checkpoint in {self.folder / 'last'} can be read ({reasons or 'there is none'}): "
            "put back what is missing there, or give another --workdir to train anew"
        )

    def _read(self, step: int, like: Saved) -> Saved:
        item = self.folder / "last" / str(step) / "default"
        if item.is_dir() and not (item / _TREE).exists():
            self._describe(item, like)
        saved = Saved(**self._last.restore(step, args=ocp.args.StandardRestore(like._asdict())))
        _require_shapes(saved, like)
        if int(saved.state.step) != step:
            raise ValueError(f"it is of step {int(saved.state.step)}")
        return saved

    def _describe(self, item: Path, like: Saved) -> None:
        """Write again what says how the arrays hang together, from one that looks the same."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder, storage_errors(item):
            with contextlib.closing(ocp.StandardCheckpointer()) as writer:
                writer.save(Path(folder) / "like", jax.tree.map(_small, like._asdict()))
            write_file(item / _TREE, (Path(folder) / "like" / _TREE).read_bytes())

    def _set_aside(self, failures: dict[int, str], good: int) -> None:
        """Make room for steps that will be written again."""
        aside = self.folder / "unreadable"
        for step, why in failures.items():
            with storage_errors(aside):
                aside.mkdir(exist_ok=True)
                shutil.rmtree(aside / str(step), ignore_errors=True)
                (self.folder / "last" / str(step)).rename(aside / str(step))
            line = f"the checkpoint of step {step} cannot be read ({why}): it is in {aside} now, "
            tell([line + f"and the run goes on from step {good}"])
        if failures:
            self._last.reload()

    def close(self) -> None:
        """Release the folder."""
        self._last.close()
        self._best.close()


def _require_shapes(found: Saved, wanted: Saved) -> None:
    """Orbax gives an array as it was saved, whatever was asked for."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True)
    for one, other in pairs:
        if np.shape(one) != np.shape(other):
            raise ValueError(f"an array is {np.shape(one)}, config.json says {np.shape(other)}")


def _small(leaf: np.ndarray) -> np.ndarray:
    return np.zeros((1,) * leaf.ndim, leaf.dtype)


def _manager(folder: Path, keep: int) -> ocp.CheckpointManager:
    folder.mkdir(parents=True, exist_ok=True)
    # Every process has the whole state, and process 0 alone comes here: orbax is to wait for none.
    alone = ocp.options.MultiprocessingOptions(active_processes={0})
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep,
        enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
        create=False,
        multiprocessing_options=alone,
    )
    # Told what a step holds, or an empty folder among them would decide it.
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    try:
        return ocp.CheckpointManager(folder, options=options, item_handlers=handler)
    except OSError:
        raise
    except Exception:  # times of day that are none; the arrays lie elsewhere
        for told in folder.glob("*/_CHECKPOINT_METADATA"):
            told.unlink()
    return ocp.CheckpointManager(folder, options=options, item_handlers=handler)
