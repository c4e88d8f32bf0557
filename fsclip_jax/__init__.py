"""Few-shot image classification on a frozen CLIP, in JAX.

Importing the package is light: JAX is loaded by the submodule that needs it.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

__all__ = ["FewShotClassifier", "__version__"]


def __getattr__(name: str) -> Any:
    """Load ``FewShotClassifier`` when it is asked for."""
    if name == "FewShotClassifier":
        # By name: the layers below import this module for the version, and may not see upwards.
        return importlib.import_module("fsclip_jax.prediction.estimator").FewShotClassifier
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
