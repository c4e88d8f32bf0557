"""The one mesh of the package: a single axis, ``data``, over the devices."""

import importlib.util
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from fsclip_jax.accelerators import find_accelerator
from fsclip_jax.errors import UserError

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
        return f"{kind}, {os.cpu_count()} cores, {platform.machine()}"
    return f"{len(devices)} x {kind}"


def runs_on() -> str:
    """Say in a few words what this process computes on: ``2 CPU cores``, ``NVIDIA H100``."""
    devices = jax.local_devices()
    kind, count = devices[0].device_kind, len(devices)
    if devices[0].platform == "cpu":
        can = getattr(os, "sched_getaffinity", None)
        cores = len(can(0)) if can else os.cpu_count() or 1
        return f"{cores} CPU core{'s' * (cores > 1)}"
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
