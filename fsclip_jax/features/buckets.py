"""Batches of one size, so that a tower is compiled once."""

import numpy as np


def bucket_size(n: int, batch: int, multiple: int = 1) -> int:
    """Choose the size that all batches of a job have.

    Returns ``batch``, or for a small job the next power of two from ``n`` up, rounded up to the
    multiple.

    Example:
        >>> bucket_size(1000, 256), bucket_size(5, 256), bucket_size(5, 256, multiple=3)
        (256, 8, 9)
    """
    size = min(batch, 1 << max(0, n - 1).bit_length())
    return -(-size // multiple) * multiple


def padded(x: np.ndarray, size: int) -> np.ndarray:
    """Append zeros along the first axis up to a size.

    Example:
        >>> padded(np.array([7, 8]), 3).tolist()
        [7, 8, 0]
    """
    out = np.zeros((size, *x.shape[1:]), x.dtype)
    out[: len(x)] = x
    return out
