"""Few-shot image classification on a frozen CLIP, in JAX.

Importing the package is light: JAX is loaded by the submodule that needs it.
"""

__version__ = "0.1.0"
