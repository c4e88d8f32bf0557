"""The one mesh of the package: a single axis, ``data``, over the devices."""

import importlib.util
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fsclip_jax.accelerators import find_accelerator
from fsclip_jax.errors import UserError
from fsclip_jax.machine import cores

Item = TypeVar("Item")
Found = TypeVar("Found")

DATA_AXIS = "data"
"""Name of the mesh axis that batches of episodes and of images are split over."""


def data_mesh(n_devices: int | None = None) -> Mesh:
    """Make the mesh that batches are split over.

    The axis is of type Auto: the compiler propagates shardings, and a gather needs no
    annotation of its own.

    Args:
        n_devices: how many devices to use, the first ones; all of them by default.

    Raises:
        UserError: there are fewer devices than asked for.

    Example:
        >>> data_mesh(1).shape["data"]
        1
    """
    devices = jax.devices()
    count = len(devices) if n_devices is None else n_devices
    if not 1 <= count <= len(devices):
        raise UserError(
            f"{count} devices asked for; this machine has {len(devices)}: "
            f"ask for 1 to {len(devices)}"
        )
    return _mesh(devices[:count])


def require_shared(batch: int, processes: int) -> None:
    """Refuse a batch that so many processes cannot share evenly.

    Raises:
        UserError: with what to give instead.

    Example:
        >>> require_shared(4, 2)
    """
    if batch % processes:
        raise UserError(
            f"--batch is {batch}, which {processes} processes cannot share: "
            f"give a multiple of {processes}, or another number of processes"
        )


def shared_mesh(batch: int) -> Mesh:
    """Make the mesh that a batch is split over: as many devices of every process as divide it.

    Raises:
        UserError: the processes cannot share the batch evenly.

    Example:
        >>> shared_mesh(1).size
        1
    """
    each: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        each.setdefault(device.process_index, []).append(device)
    most = min(map(len, each.values()))
    require_shared(batch, len(each))
    fitting = [n for n in range(1, most + 1) if batch % (n * len(each)) == 0]
    return _mesh([device for of in each.values() for device in of[: fitting[-1]]])


def on_every_device(tree: Any, mesh: Mesh) -> Any:
    """Put a whole copy of arrays on every device; all processes have the same arrays."""
    whole = replicated(mesh)
    if whole.is_fully_addressable:
        return jax.device_put(tree, whole)

    def put(leaf: Any) -> jax.Array:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            data = put(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        here = np.asarray(leaf)
        return jax.make_array_from_callback(here.shape, whole, lambda index: here[index])

    return jax.tree.map(put, tree)


def largest_of_all(mesh: Mesh) -> Callable[[int], int]:
    """Return the function that tells every process the largest number that one of them gives."""
    parts = batch_sharding(mesh)
    if parts.is_fully_addressable:
        return lambda number: number
    largest = jax.jit(lambda numbers: numbers.max(), out_shardings=replicated(mesh))

    def ask(number: int) -> int:
        given = np.full(1, number, np.int32)
        numbers = jax.make_array_from_callback((mesh.size,), parts, lambda _: given)
        return int(largest(numbers))

    return ask


def over_devices(work: Callable[[Item], Found], items: Sequence[Item]) -> Iterator[Found]:
    """Yield what the work gives for every item, in order, as many at a time as there are devices.

    An item is worked on by one device of this host as it would be by the only one, so what it
    gives is the same on any number. Work within such work stays on its device.

    Example:
        >>> list(over_devices(lambda item: item + 1, [1, 2, 3]))
        [2, 3, 4]
    """
    devices = jax.local_devices()
    at_once = min(len(devices), len(items))
    if at_once < 2 or device_of_thread() is not None:
        yield from map(work, items)
        return
    free: SimpleQueue[jax.Device] = SimpleQueue()
    for device in devices:
        free.put(device)

    def on_one(item: Item) -> Found:
        device = free.get()
        try:
            with jax.default_device(device):
                return work(item)
        finally:
            free.put(device)

    pool = ThreadPoolExecutor(at_once)
    try:
        yield from pool.map(on_one, items)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def device_of_thread() -> jax.Device | None:
    """Return the device that `over_devices` gave to what is running; None outside of it."""
    device: jax.Device | None = jax.config.jax_default_device  # type: ignore[attr-defined]
    return device


def accelerator_mesh() -> Mesh | None:
    """Make the mesh over this host's accelerators; None where there are fewer than two."""
    devices = jax.local_devices()
    return None if len(devices) < 2 or devices[0].platform == "cpu" else _mesh(devices)


def _mesh(devices: Sequence[jax.Device]) -> Mesh:
    return Mesh(np.asarray(devices), (DATA_AXIS,), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding that splits the first axis of an array over the devices.

    Example:
        >>> tuple(batch_sharding(data_mesh(1)).spec)
        ('data',)
    """
    return NamedSharding(mesh, PartitionSpec(DATA_AXIS))


def replicated(mesh: Mesh) -> NamedSharding:
    """Sharding that keeps a whole copy on every device.

    Example:
        >>> replicated(data_mesh(1)).is_fully_replicated
        True
    """
    return NamedSharding(mesh, PartitionSpec())


def device_name() -> str:
    """Say what the numbers are computed on."""
    devices = jax.devices()
    kind = devices[0].device_kind
    if devices[0].platform == "cpu":
        return f"{kind}, {cores()} cores, {platform.machine()}"
    return f"{len(devices)} x {kind}"


def runs_on() -> str:
    """Say in a few words what this process computes on: ``2 CPU cores``, ``NVIDIA H100``."""
    devices = jax.local_devices()
    kind, count = devices[0].device_kind, len(devices)
    if devices[0].platform == "cpu":
        mine = cores()
        return f"{mine} CPU core{'s' * (mine > 1)}"
    return f"{count} x {kind}" if count > 1 else kind


def unseen_accelerator(root: Path = Path("/")) -> str | None:
    """Say which accelerator is there and JAX does not see, and the cure; None where all is well.

    Who keeps JAX from it by ``$JAX_PLATFORMS`` or ``$CUDA_VISIBLE_DEVICES`` knows.

    Args:
        root: as `accelerators.find_accelerator` takes it.
    """
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    if hidden or os.environ.get("JAX_PLATFORMS") or jax.local_devices()[0].platform != "cpu":
        return None
    found = find_accelerator(root)
    if found is None:
        return None
    told = f"there is {found.name}, but JAX sees none"
    if not found.extra:
        return f"{told}: its driver is too old, install a newer one"
    if importlib.util.find_spec(f"jax_{found.extra}_plugin"):
        return f"{told}, though jax_{found.extra}_plugin is installed: `nvidia-smi` may say why"
    return f"{told}: pip install 'fsclip-jax[{found.extra}]'"
