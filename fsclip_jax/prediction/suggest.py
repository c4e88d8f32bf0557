"""``--suggest``: the pictures whose labels would help most."""

import numpy as np

from fsclip_jax.typing import Float, Int

MOST_CONSIDERED = 2_000
"""Pictures that are looked at: of more, those whose class is least probable."""

RULE = (
    "one after another, the picture that brings the doubtful ones most of what is labelled near: "
    "the sum over all of doubt x how much larger the cosine to the most similar picture that is "
    "labelled or suggested becomes; doubt is 1 - the margin between the two most probable classes"
)

_ROWS = 256


def margins(probabilities: Float[np.ndarray, "n way"]) -> Float[np.ndarray, " n"]:
    """Return how far the most probable class is ahead of the next.

    Example:
        >>> margins(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]])).round(2).tolist()
        [0.25, 0.7]
    """
    two = np.partition(probabilities, -2, axis=-1)[:, -2:]
    return np.asarray(two[:, 1] - two[:, 0])


def suggest(
    features: Float[np.ndarray, "n dim"],
    probabilities: Float[np.ndarray, "n way"],
    similarity: Float[np.ndarray, " n"],
    count: int,
) -> Int[np.ndarray, " chosen"]:
    """Choose pictures to label, the most helpful first, by ``RULE``.

    It is the greedy choice for a facility location weighted by doubt: of pictures that look alike
    one is named, and one that looks like no other helps none.

    Args:
        features: unit features of the pictures.
        similarity: largest cosine of each to a labelled picture.

    Example:
        >>> features, shares = np.eye(3)[[0, 1, 1]], np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]])
        >>> suggest(features, shares, np.zeros(3), 2).tolist()
        [1, 0]
    """
    doubt = (1 - margins(probabilities)).astype(np.float32)
    cosines = np.asarray(features, np.float32) @ np.asarray(features, np.float32).T
    near = np.array(similarity, np.float32)
    chosen: list[int] = []
    for _ in range(min(count, len(features))):
        gain = np.zeros(len(features), np.float32)
        for low in range(0, len(features), _ROWS):
            rows = slice(low, low + _ROWS)
            gain[rows] = np.maximum(cosines[rows] - near, 0) @ doubt
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        near = np.maximum(near, cosines[chosen[-1]])
    return np.array(chosen, np.int32)
