"""The labelled pictures of a fit: which stand twice, and which is closest to another picture."""

from typing import Any, NamedTuple

import numpy as np

from fsclip_jax.fitting.draws import Draws
from fsclip_jax.typing import Array, Bool, Float, Int

NEARLY = 0.98
"""Cosine from which two pictures are nearly the same. Of 150 emoji on the bundled CLIP, all that
were scaled by 0.75 or 3 or saved as JPEG of quality 90 stay above, and 95 % at quality 50; of
1,259 photographs of Caltech-101 on a ViT-B/32, 1 % have another of their class above."""

MOST_COMPARED = 10_000
"""Labelled pictures of which all are compared; of more, those of one class."""

_ROWS = 512
_FEW_PRODUCTS = 2**24  # of 64 pictures and 500 labelled ones with 512 numbers


class Twins(NamedTuple):
    """Two places of the support, ``class * shots + shot``, that hold nearly the same picture."""

    first: int
    second: int
    cosine: float


class Shots(NamedTuple):
    """The labelled pictures that a classifier was fitted to.

    Attributes:
        rows: where each stands in what was given.
    """

    features: Float[np.ndarray, "way shot dim"]
    mask: Bool[np.ndarray, "way shot"]
    rows: Int[np.ndarray, " slot"]
    twins: tuple[Twins, ...]


def shots_of(draws: Draws) -> Shots:
    """Return the support images of one draw as they would be asked."""
    features, mask = np.asarray(draws.plain)[0], np.asarray(draws.task.support_mask)[0]
    rows = np.arange(mask.size) if draws.rows is None else np.asarray(draws.rows).reshape(-1)
    return Shots(features, mask, rows.astype(np.int32), find_twins(features, mask))


def closest(
    shots: Shots, features: Float[Array | np.ndarray, "n dim"]
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Return the largest cosine of each picture to a labelled one, and the row of that one."""
    cosines, slots = neighbours(shots, features, 1)
    return cosines[:, 0], shots.rows[slots[:, 0]]


def neighbours(
    shots: Shots, features: Float[Array | np.ndarray, "n dim"], most: int
) -> tuple[Float[np.ndarray, "n near"], Int[np.ndarray, "n near"]]:
    """Return the cosines of each picture to the labelled ones nearest to it, and their slots.

    Slots are ``class * shots + shot``; the nearest comes first.

    Example:
        >>> two = np.eye(2, dtype=np.float32)[:, None]
        >>> shots = Shots(two, np.ones((2, 1), bool), np.arange(2, dtype=np.int32), ())
        >>> neighbours(shots, two[1], 2)[1].tolist()
        [[1, 0]]
    """
    kept = np.flatnonzero(shots.mask)
    support = shots.features.reshape(len(shots.rows), -1)[kept]
    near = min(most, len(kept))
    cosines = np.zeros((len(features), near), np.float32)
    places = np.zeros((len(features), near), np.int32)
    for low in range(0, len(features), _ROWS):
        rows = slice(low, low + _ROWS)
        found = _products(np.asarray(features[rows], np.float32), support)
        places[rows] = _largest(found, near)
        cosines[rows] = np.minimum(np.take_along_axis(found, places[rows], 1), 1)
    return cosines, kept[places]


def _products(features: np.ndarray, support: np.ndarray) -> np.ndarray:
    """Multiply each with each; few without BLAS, whose threads wait for those of the tower."""
    if features.size * len(support) <= _FEW_PRODUCTS:
        found: np.ndarray = np.einsum("nd,sd->ns", features, support)
        return found
    return features @ support.T


def _largest(values: np.ndarray, most: int) -> np.ndarray:
    """Columns of the largest values of every row, the largest first; of equals the first."""
    if most == 1:
        return values.argmax(-1)[:, None]
    columns = (
        np.argpartition(-values, most - 1, axis=-1)[:, :most]
        if most < values.shape[1]
        else (np.broadcast_to(np.arange(values.shape[1]), values.shape))
    )
    order = np.argsort(-np.take_along_axis(values, columns, 1), axis=-1, kind="stable")
    return np.take_along_axis(columns, order, 1)


def find_twins(
    features: Float[np.ndarray, "way shot dim"], mask: Bool[np.ndarray, "way shot"]
) -> tuple[Twins, ...]:
    """Pair every picture with the most similar one before it, if they are nearly the same.

    Example:
        >>> features = np.eye(4, dtype=np.float32)[[[0, 1], [2, 0]]]
        >>> find_twins(features, np.ones((2, 2), bool))
        (Twins(first=0, second=3, cosine=1.0),)
    """
    way, shots, dim = features.shape
    slots = np.flatnonzero(mask)
    flat = features.reshape(way * shots, dim)
    if len(slots) <= MOST_COMPARED:
        return tuple(_pairs(flat, slots))
    classes = np.split(slots, np.searchsorted(slots, np.arange(1, way) * shots))
    return tuple(twins for each in classes for twins in _pairs(flat, each))


def _pairs(flat: np.ndarray, slots: np.ndarray) -> list[Twins]:
    found: list[Twins] = []
    for low in range(0, len(slots), _ROWS):
        rows = slots[low : low + _ROWS]
        cosines = flat[rows] @ flat[slots[: low + len(rows)]].T
        earlier = np.arange(cosines.shape[1]) < low + np.arange(len(rows))[:, None]
        cosines = np.where(earlier, cosines, -1)
        best = cosines.argmax(-1)
        top = np.minimum(np.take_along_axis(cosines, best[:, None], 1)[:, 0], 1)
        found += [
            Twins(int(slots[best[place]]), int(rows[place]), float(top[place]))
            for place in np.flatnonzero(top >= NEARLY).tolist()
        ]
    return found


def as_families(draws: Draws, twins: tuple[Twins, ...]) -> Draws:
    """Let nearly the same pictures be of one family, so that they are held out together."""
    family: Any = np.full(draws.domains.shape[1] * draws.domains.shape[2], -1, np.int32)
    for number, (first, second, _) in enumerate(twins):
        if family[first] < 0:
            family[first] = number
        family[second] = family[first]
    return draws._replace(domains=family.reshape(draws.domains.shape))
