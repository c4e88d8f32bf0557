"""Numbers of shots: a whole number of each class, or ``imbalanced:MEAN`` of all on average."""

import re
from collections.abc import Iterable
from typing import TypeAlias

Shots: TypeAlias = int | str
"""As configurations and reports have them; see :func:`mean_shots`."""

UNEVEN = "imbalanced:"
FORM = rf"^{UNEVEN}[1-9][0-9]{{0,8}}$"
"""Pattern of what is no number."""


def mean_shots(shots: Shots) -> int:
    """Return how many shots a class has, on average.

    Raises:
        ValueError: it is neither a number from 1 on nor of the form ``imbalanced:MEAN``.

    Example:
        >>> mean_shots(4), mean_shots("imbalanced:16")
        (4, 16)
    """
    if isinstance(shots, int) and shots >= 1:
        return shots
    if isinstance(shots, str) and re.fullmatch(FORM, shots):
        return int(shots.removeprefix(UNEVEN))
    raise ValueError(f"{shots!r} is no number of shots")


def in_order(shots: Iterable[Shots]) -> tuple[Shots, ...]:
    """Return distinct numbers of shots from few to many, imbalanced ones behind their equals.

    Example:
        >>> in_order(["imbalanced:4", 16, 4, 4])
        (4, 'imbalanced:4', 16)
    """
    return tuple(sorted(set(shots), key=lambda each: (mean_shots(each), isinstance(each, str))))


def shots_phrase(shots: Shots) -> str:
    """Name a number of shots.

    Example:
        >>> shots_phrase(1), shots_phrase(4), shots_phrase("imbalanced:4")
        ('1 shot', '4 shots', 'imbalanced:4')
    """
    return shots if isinstance(shots, str) else f"{shots} shot{'' if shots == 1 else 's'}"
