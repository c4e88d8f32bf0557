"""Vectors of length one."""

import numpy as np


def unit(x):
    """Scale the last axis to length one, in float32."""
    x = np.asarray(x)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)
