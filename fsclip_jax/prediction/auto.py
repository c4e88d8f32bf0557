"""``--method auto``: the method that classifies most held-out pictures right, of a short list."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fsclip_jax.fitting.draws import Draws
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.fitted import Fitted, choose_setting
from fsclip_jax.fitting.methods import Method
from fsclip_jax.prediction.held_out import Folds, HeldOut, fit_held_out

AUTO = "auto"

DEFAULT_METHOD = "meta_probe"
"""What classifies where nothing is clearly better: with nothing to tune above ``linear_probe`` on
all development data of docs/methods.md, most at one shot, where nothing can be held out."""

SHORT_LIST = (DEFAULT_METHOD, "linear_probe", "text_prototype", "prototype")
"""What is tried, the default first: probes, text and shots, shots alone. A kernel behind the first
would win little, and the search of its settings is most of what a user waits for."""

WITHOUT_TEXT = ("ridge", "prototype")
"""The same for an image tower without text. Of Caltech's features without theirs ridge has 86.5,
93.9 and 97.3 % at 1, 4 and 16 shots of 67 classes, prototype 81.3, 92.8 and 94.1."""


@dataclass(frozen=True, eq=False)
class Tried:
    """A method fitted to the whole support, and what its fits to the folds say of the rest."""

    method: Method
    fitted: Fitted
    held: HeldOut


def try_methods(
    engine: Engine,
    methods: Sequence[Method],
    draws: Draws,
    folds: Folds,
    *,
    own_text: bool = True,
) -> list[Tried]:
    """Choose the settings of each method and fit it; with nothing to hold out, the first alone."""
    tried: list[Tried] = []
    for method in methods if folds.asked.any() else methods[:1]:
        choice = choose_setting(engine, method, draws, "shots")
        fitted, held = fit_held_out(engine, method, choice, draws, folds, own_text=own_text)
        tried.append(Tried(method, fitted, held))
    return tried


def best_of(held: Sequence[HeldOut]) -> int:
    """Say which of several did best on the same pictures; the first, unless clearly beaten.

    Clearly: of the pictures that only one of the two has right, the other has more than one
    standard error more, ``w - l > sqrt(w + l)``.

    Example:
        >>> def of(*right):
        ...     zero = np.zeros(len(right), int)
        ...     return HeldOut(np.eye(2)[[1 - each for each in right]], zero, zero, zero, zero)
        >>> best_of([of(1, 0, 0, 0), of(1, 1, 1, 1)]), best_of([of(1, 0, 0, 0), of(1, 1, 0, 0)])
        (1, 0)
    """
    right, best, lead = held[0].right, 0, 0
    for place, other in enumerate(held):
        won = int(np.sum(other.right & ~right))
        lost = int(np.sum(right & ~other.right))
        if won - lost > max(lead, (won + lost) ** 0.5):
            best, lead = place, won - lost
    return best
