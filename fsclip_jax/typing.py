"""Array aliases and the glossary of axes.

Axes, spelled the same everywhere:

===========  ==============================================================
``dim``      width of the joint embedding of CLIP
``way``      classes of a task
``shot``     support images of a class
``query``    images to classify
``view``     augmented views of one image
``n``        images of a bank
``classes``  classes of a data set
``batch``    examples that go through a tower together
``length``   tokens of a prompt
===========  ==============================================================
"""

from typing import Any, TypeAlias

from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, Scalar, UInt8

Params: TypeAlias = Any
"""A pytree of learned or searched arrays."""

State: TypeAlias = Any
"""A pytree: what ``fit`` makes of a task, and all that ``logits`` needs."""

__all__ = [
    "Array",
    "Bool",
    "Float",
    "Int",
    "Key",
    "PRNGKeyArray",
    "Params",
    "Scalar",
    "State",
    "UInt8",
]
