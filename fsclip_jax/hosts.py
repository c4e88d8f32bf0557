"""Several hosts that do one job: who they are, how they meet, and the words they exchange."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fsclip_jax.errors import UserError
from fsclip_jax.wire import FAILED, PATIENCE, Wire, because, gather, listen, own_addresses, reach

_POLL = 1.0  # seconds
_ADDRESSES = 1024  # bytes that they are told in


@dataclass(frozen=True)
class Hosts:
    """The processes of one job, as this one sees them.

    The words do not go through the devices: a host may be hours ahead of another.
    """

    index: int = 0
    count: int = 1
    wire: Wire | None = field(default=None, compare=False, repr=False)

    def tell(self, name: str, word: str = "") -> None:
        """Say something to all others, for good."""
        if self.wire is not None:
            self.wire.tell(name, word)

    def hear(self, name: str) -> str:
        """Wait until somebody has told ``name``, and return the word.

        Raises:
            UserError: one of the others failed and will not tell it.
        """
        assert self.wire is not None, "alone there is nobody to hear"
        while (word := self.wire.hear(name, _POLL)) is None:
            self.check()
        return word

    def heard(self, name: str) -> str | None:
        """Return the word if somebody has told ``name`` by now."""
        return None if self.wire is None else self.wire.hear(name, 0.0)

    def meet(self, name: str) -> None:
        """Wait until every process has come here."""
        self.tell(f"{name}/{self.index}")
        for other in range(self.count):
            if other != self.index:
                self.hear(f"{name}/{other}")

    def same(self, name: str, mine: dict[str, Any]) -> None:
        """Refuse to work with others that were given something else.

        Raises:
            UserError: naming what differs from process 0.
        """
        if self.count == 1:
            return
        mine = json.loads(json.dumps(mine, default=str))
        if not self.index:
            self.tell(name, json.dumps(mine))
            return
        first = json.loads(self.hear(name))
        differ = [key for key in {**first, **mine} if first.get(key) != mine.get(key)]
        if differ:
            each = ", ".join(
                f"{key} {first.get(key)!r} there, {mine.get(key)!r} here" for key in differ
            )
            raise UserError(
                f"process {self.index} has another {name} than process 0 ({each}): "
                "run the same command on the same data everywhere"
            )

    def check(self) -> None:
        """Raise a ``UserError`` if one of the others has failed."""
        if self.wire is not None and self.wire.failure is not None:
            raise UserError(because(self.wire.failure))

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Do the job: tell the others if the block fails, and end if another process did.

        Where the block cannot end, as it computes together with a process that is no more, this
        process ends within seconds, with a line and the exit code 2.
        """
        try:
            yield
        except BaseException as error:
            if self.wire is None:
                raise
            self.wire.ending()
            if type(error).__name__ == "JaxRuntimeError":  # is it that another one is gone?
                self.wire.hear(FAILED, _POLL)
            if self.wire.failure is not None:
                if isinstance(error, UserError) or not isinstance(error, Exception):
                    raise
                raise UserError(because(self.wire.failure)) from None
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__} "
            self.tell(FAILED, f"process {self.index}: {kind}{error}".strip())
            raise
        if self.wire is not None:
            self.wire.bye()


ALONE = Hosts()
"""One process does it all."""


def join_hosts(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    patience: float = PATIENCE,
    devices: bool = False,
) -> Hosts:
    """Meet the other processes of a job, before anything is computed.

    ``coordinator`` is ``HOST:PORT`` where process 0 listens; ``auto`` asks the environment
    (``JAX_COORDINATOR_ADDRESS``, ``JAX_NUM_PROCESSES``, ``JAX_PROCESS_ID``, or what JAX itself
    finds under Slurm, Open MPI, Kubernetes and on TPU pods); None means alone.

    Args:
        patience: seconds in which all must have come.
        devices: whether they compute together, see `settle`, or exchange words alone.

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
    elif not _is_address(coordinator):
        raise UserError(f"--coordinator is {coordinator!r}; it must be HOST:PORT or auto")
    elif processes is None or process is None:
        raise UserError("--coordinator HOST:PORT needs --processes N and --process I")
    if processes is not None and process is not None and not 0 <= process < processes:
        raise UserError(f"--process is {process}; with --processes {processes} it counts from 0")
    if processes == 1:
        return ALONE
    if coordinator is None or processes is None or process is None:
        hosts = _meet_by_jax(coordinator, processes, process)
    else:
        if not _is_address(coordinator):
            raise UserError(
                f"the environment's JAX_COORDINATOR_ADDRESS is {coordinator!r}; "
                "it must be HOST:PORT"
            )
        hosts = _meet(coordinator, processes, process, patience)
    if not devices:
        _part()
    return hosts


def settle(hosts: Hosts, first_computation: Callable[[], object]) -> None:
    """Let the devices of all processes meet in a first computation.

    On CPUs no later one needs JAX's own service, which ends a process by a stack trace when
    process 0 is lost; on GPUs and TPUs it stays.
    """
    import jax

    if hosts.count == 1:
        return
    hosts.meet("computing")
    with _silent(1):
        first_computation()
    if jax.local_devices()[0].platform == "cpu":
        _part()


def _meet(coordinator: str, processes: int, process: int, patience: float) -> Hosts:
    """Meet where process 0 listens; JAX's own service then gets a port that is free."""
    host, _, port = coordinator.rpartition(":")
    if process:
        wire = reach([(host.strip("[]"), int(port))], process, processes, patience)
        hosts = Hosts(process, processes, wire)
        at = f"{host}:{hosts.hear('port')}"
        with _silent(2):
            _initialize(at, processes, process)
        return hosts
    wire = gather(listen(int(port)), processes, patience)
    with listen(0) as free:
        port = str(free.getsockname()[1])
    hosts = Hosts(process, processes, wire)
    hosts.tell("port", port)
    with _silent(2):
        _initialize(f"{host}:{port}", processes, process)
    return hosts


def _meet_by_jax(coordinator: str | None, processes: int | None, process: int | None) -> Hosts:
    """Meet as JAX finds out; the devices then tell where process 0 listens."""
    import jax
    import numpy as np
    from jax.experimental.multihost_utils import broadcast_one_to_all

    _initialize(coordinator, processes, process)
    index, count = jax.process_index(), jax.process_count()
    if count == 1:
        return ALONE
    server = None if index else listen(0)
    told = [*own_addresses(), server.getsockname()[1]] if server else []
    line = json.dumps(told).encode()[:_ADDRESSES].ljust(_ADDRESSES)
    with _silent(1):
        heard = broadcast_one_to_all(np.frombuffer(line, np.uint8))
    if server is not None:
        return Hosts(index, count, gather(server, count))
    *names, port = json.loads(bytes(np.asarray(heard)))
    return Hosts(index, count, reach([(name, port) for name in names], index, count))


def _initialize(coordinator: str | None, processes: int | None, process: int | None) -> None:
    import jax

    # Else JAX catches SIGTERM and goes on.
    jax.config.update("jax_enable_preemption_service", False)
    # Else none may leave its service before all do.
    jax.config.update("jax_enable_recoverability", True)
    try:
        jax.distributed.initialize(coordinator, processes, process, _devices_of_this())
    except (RuntimeError, ValueError) as error:
        remedy = "see that process 0 runs and can be reached there"
        if coordinator is None:
            remedy = "nothing here tells where they are: give HOST:PORT in place of auto"
        raise UserError(f"cannot meet the other processes: {error}; {remedy}") from error


def _devices_of_this() -> list[int] | None:
    """Name no device, which means all, where this process is alone on its host; else None.

    JAX itself gives every process under Slurm and Open MPI one device, however many there are.
    """
    alone = (
        re.fullmatch(r"1(\(x\d+\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", "1"))
        and os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1") == "1"
        and "JAX_LOCAL_DEVICE_IDS" not in os.environ
    )
    return [] if alone else None


def _part() -> None:
    """Leave JAX's own service, which process 0 keeps: a loss is heard over the wire alone."""
    import jax

    if jax.process_index():  # the devices have met through that service
        jax.distributed.shutdown()


@contextmanager
def _silent(number: int) -> Iterator[None]:
    """Leave out what JAX and Gloo print whenever processes meet."""
    kept, nowhere = os.dup(number), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


def _is_address(text: str) -> bool:
    host, colon, port = text.rpartition(":")
    return bool(host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536)


def _number(name: str) -> int | None:
    value = os.environ.get(name)
    if value is not None and not value.isdigit():
        raise UserError(f"the environment's {name} is {value!r}; it must be a number")
    return None if value is None else int(value)
