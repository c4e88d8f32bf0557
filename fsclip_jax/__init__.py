"""Few-shot image classification on a frozen CLIP, in JAX.

Importing the package is light: JAX is loaded by the submodule that needs it.
"""

import importlib

__version__ = "0.1.0"

__all__ = ["Checkpoint", "FewShotClassifier", "__version__", "backbones", "load_clip", "methods"]

_PLACES = {
    "Checkpoint": "fitting.checkpoints.Checkpoint",
    "FewShotClassifier": "prediction.estimator.FewShotClassifier",
    "backbones": "clip.published.backbones",
    "load_clip": "prediction.encoder.load_encoder",
    "methods": "adapters.describe.methods",
}


def __getattr__(name: str) -> object:
    """Load what the package offers when it is asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # By name: the layers below import this module for the version, and may not see upwards.
    module, _, public = _PLACES[name].rpartition(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), public)
