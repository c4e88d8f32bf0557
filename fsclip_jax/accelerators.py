"""Which accelerator this machine has, asked of the system: no JAX, nothing but Python's own.

``python -I fsclip_jax/accelerators.py`` prints the extra that serves it, before anything is
installed and with any Python 3, so that the Makefile can say which one is needed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

_CUDA_EXTRAS = (("cuda13", 580), ("cuda12", 525))
"""Extras of jax, the newest first, and the oldest NVIDIA driver that each runs on."""

_GOOGLE = "0x1ae0"
_TPUS = frozenset(("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076"))
"""Numbers on the PCI bus: the vendor, and its TPUs from v2 on (its network cards are no TPUs)."""


@dataclass(frozen=True)
class Accelerator:
    """A device that is there, and the extra of this package that makes JAX see it."""

    name: str
    extra: str
    """Empty where none can: the NVIDIA driver is older than every CUDA that JAX is built for."""


def find_accelerator(root: Path = Path("/")) -> Accelerator | None:
    """Return the accelerator that is there; None where there is none, or the system hides it.

    Args:
        root: where the system's own folders ``dev``, ``proc`` and ``sys`` are.

    Example:
        >>> find_accelerator(Path("/nowhere"))
    """
    try:
        return _nvidia(root) or _tpu(root)
    except OSError:
        return None


def _nvidia(root: Path) -> Accelerator | None:
    # A container without a GPU sees the driver of its host, so the device itself is looked for.
    if not any((root / "dev").glob("nvidia[0-9]*")) and not (root / "dev/dxg").exists():
        return None
    driver = _driver(root / "proc/driver/nvidia/version")
    if driver is None:  # Windows' own driver serves a Linux within it, and hides its number
        inside = (root / "usr/lib/wsl/lib/libcuda.so.1").exists()
        return Accelerator("an NVIDIA GPU", "cuda12") if inside else None
    extra = next((extra for extra, oldest in _CUDA_EXTRAS if driver >= oldest), "")
    return Accelerator(f"an NVIDIA GPU with driver {driver}", extra)


def _driver(file: Path) -> int | None:
    """Read the driver's major number, of a line ``... Kernel Module for x86_64  580.65.06 ...``."""
    words = file.read_text("utf-8", "replace").split() if file.exists() else []
    numbers = (word.partition(".") for word in words)
    return next((int(a) for a, dot, b in numbers if dot and a.isdigit() and b[:1].isdigit()), None)


def _tpu(root: Path) -> Accelerator | None:
    for vendor in (root / "sys/bus/pci/devices").glob("*/vendor"):
        numbers = [vendor.with_name(name).read_text().strip() for name in ("vendor", "device")]
        if numbers[0] == _GOOGLE and numbers[1] in _TPUS:
            return Accelerator("a TPU", "tpu")
    return None


def main(words: list[str]) -> int:
    """Print the extra for this machine, an empty line where plain JAX is right."""
    found = find_accelerator(*map(Path, words[:1]))
    print(found.extra if found else "")
    if found and not found.extra:
        oldest = _CUDA_EXTRAS[-1][1]
        print(f"{found.name}: JAX needs driver {oldest} or newer; using the CPU", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
