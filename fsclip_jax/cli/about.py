"""``fsclip --version --verbose``: what a report of a fault needs to say."""

import importlib.metadata
import platform

from fsclip_jax import __version__

LIBRARIES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "transformers",
    "tokenizers",
    "safetensors",
    "numpy",
    "pillow",
    "scikit-learn",
    "tensorflow-datasets",
)
"""Libraries whose version is told; one that is missing is told too."""


def about() -> list[str]:
    """Return versions, the machine and its devices, a line each."""
    import jax

    from fsclip_jax.devices import device_name
    from fsclip_jax.features.extract import default_cache

    width = max(map(len, LIBRARIES))
    lines = [f"fsclip {__version__}", f"python {platform.python_version()}, {platform.platform()}"]
    lines += [f"  {name:<{width}}  {_version(name)}" for name in LIBRARIES]
    lines.append(f"devices: {device_name()} ({jax.default_backend()})")
    lines.append(f"feature banks: {default_cache()}")
    return lines


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
