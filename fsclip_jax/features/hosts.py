"""Several hosts that extract one bank: who they are, and the few words they exchange."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fsclip_jax.errors import UserError

_FAILED = "failed"
_POLL_MS = 1000


@dataclass(frozen=True)
class Hosts:
    """The processes of one job, as this one sees them.

    The words go through the key-value store of ``jax.distributed``, not through the devices: a
    host may be hours ahead of another, and the store outwaits that.
    """

    index: int = 0
    count: int = 1
    job: str = "extract"
    """Tells the words of one job from those of another."""

    def tell(self, name: str, word: str = "") -> None:
        """Say something to all others, for good."""
        if self.count > 1:
            _client().key_value_set(f"fsclip/{self.job}/{name}", word, allow_overwrite=True)

    def hear(self, name: str) -> str:
        """Wait until somebody has told ``name``, and return the word.

        Raises:
            UserError: one of the others failed and will not tell it.
        """
        from jax.errors import JaxRuntimeError

        while True:
            try:
                key = f"fsclip/{self.job}/{name}"
                return str(_client().blocking_key_value_get(key, _POLL_MS))
            except JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise UserError(
                        "lost the connection to process 0 of this extraction: run the same "
                        "command again on every host; what is finished is kept"
                    ) from error
            self.check()

    def check(self) -> None:
        """Raise a ``UserError`` if one of the others has failed."""
        if self.count == 1:
            return
        from jax.errors import JaxRuntimeError

        try:
            word = _client().key_value_try_get(f"fsclip/{self.job}/{_FAILED}")
        except JaxRuntimeError:  # nobody has
            return
        raise UserError(f"stopped, for another process did: {word}")

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Tell the others if the block fails."""
        try:
            yield
        except BaseException as error:
            told = str(error).startswith("stopped, for") or "lost the connection" in str(error)
            if not told:
                kind = "" if isinstance(error, UserError) else f"{type(error).__name__} "
                self.tell(_FAILED, f"process {self.index}: {kind}{error}")
            raise


ALONE = Hosts()
"""One process does it all."""


def _client() -> Any:
    # Not exported by JAX; Orbax talks through it too.
    from jax._src.distributed import global_state

    if global_state.client is None:
        raise RuntimeError("join_hosts has not been called")
    return global_state.client


def join_hosts(
    coordinator: str | None = None, processes: int | None = None, process: int | None = None
) -> Hosts:
    """Meet the other processes of a job, before anything is computed.

    ``coordinator`` is ``HOST:PORT`` where process 0 listens; ``auto`` asks the environment
    (``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES``, ``JAX_PROCESS_ID``, or what JAX itself
    finds under Slurm, Open MPI, Kubernetes and on TPU pods); None means alone.

    Raises:
        UserError: the three do not fit, or the others cannot be reached.

    Example:
        >>> join_hosts().count
        1
    """
    if coordinator is None:
        if processes is not None or process is not None:
            raise UserError("--processes and --process need --coordinator HOST:PORT (or auto)")
        return ALONE
    if coordinator == "auto":
        coordinator = os.environ.get("JAX_COORDINATOR_ADDRESS")
        processes = processes if processes is not None else _number("JAX_NUM_PROCESSES")
        process = process if process is not None else _number("JAX_PROCESS_ID")
    elif ":" not in coordinator or not coordinator.rpartition(":")[2].isdigit():
        raise UserError(f"--coordinator is {coordinator!r}; it must be HOST:PORT or auto")
    elif processes is None or process is None:
        raise UserError("--coordinator HOST:PORT needs --processes N and --process I")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise UserError(f"--process is {process}; with --processes {processes} it counts from 0")
    import jax

    # Else JAX catches SIGTERM and goes on: extraction can stop at any moment.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"cannot meet the other processes: {error}") from error
    return Hosts(jax.process_index(), jax.process_count())


def _number(name: str) -> int | None:
    value = os.environ.get(name)
    if value is not None and not value.isdigit():
        raise UserError(f"the environment's {name} is {value!r}; it must be a number")
    return None if value is None else int(value)
