"""How many cores and how much memory this process may use: a machine's, or a container's share."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/")


def cores(root: Path = _ROOT) -> int:
    """Return the cores that this process may use, by its affinity and the quota of its cgroups.

    Part of a core counts as one.

    Args:
        root: where the system's own folders ``proc`` and ``sys`` are.
    """
    may = getattr(os, "sched_getaffinity", None)
    count = len(may(0)) if may else os.cpu_count() or 1
    return max(1, min([count, *(math.ceil(quota) for quota in _quotas(root))]))


def memory(root: Path = _ROOT) -> float:
    """Return the bytes of memory that this process may use; infinite where nobody says.

    Those of the machine, or fewer where a cgroup has a limit: of version 2 ``memory.max``, of
    version 1 ``memory.limit_in_bytes``, its own and those that it lies in.

    Args:
        root: as `cores` takes it.
    """
    try:
        whole = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        whole = math.inf
    names = ("memory.max", "memory.limit_in_bytes")
    limits = (_numbers(folder / name) for folder in _cgroups(root, "memory") for name in names)
    return min([whole, *(limit[0] for limit in limits if limit and limit[0] > 0)])


def _quotas(root: Path) -> Iterator[float]:
    """Yield the cores that each cgroup allows: processor time over the period that it is of."""
    for folder in _cgroups(root, "cpu"):
        for given in (
            _numbers(folder / "cpu.max"),
            _numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us"),
        ):
            if len(given) == 2 and min(given) > 0 and math.isfinite(given[0]):
                yield given[0] / given[1]


def _cgroups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of the cgroups of this process that exist, the outer ones too.

    A container may see its own cgroup as the root, whatever its name outside.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    system = root / "sys/fs/cgroup"
    for line in lines:
        _, names, path = [*line.split(":", 2), "", ""][:3]
        if names and controller not in names.split(","):
            continue
        inner = Path(path.lstrip("/"))
        for mounted in {names, controller} if names else ("", "unified"):
            for within in (inner, *inner.parents):
                yield system / mounted / within


def _numbers(file: Path) -> list[float]:
    """Read the numbers of a line, ``max`` as infinite; none where there is no such file."""
    try:
        return [float(word.replace("max", "inf")) for word in file.read_text("utf-8").split()]
    except (OSError, ValueError):
        return []
