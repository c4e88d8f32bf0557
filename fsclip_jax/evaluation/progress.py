"""What an evaluation tells while it goes on."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from fsclip_jax.evaluation.results import Result
from fsclip_jax.report.shots import Shots


class Watch(NamedTuple):
    """What is called while methods are compared.

    Attributes:
        begin: called once with the number of steps: a method on a set of classes each.
        now: called with what is being done.
        ended: called after every step with its accuracies in a line.
    """

    begin: Callable[[int], None] = lambda _: None
    now: Callable[[str], None] = lambda _: None
    ended: Callable[[str], None] = lambda _: None


SILENT = Watch()


def step_line(step: str, shots: Sequence[Shots], found: Mapping[tuple[str, Shots], Result]) -> str:
    """Say in a line how accurate a method was, by group and number of shots.

    Example:
        >>> step_line("method 1 of 2, ridge", [1], {})
        'method 1 of 2, ridge: nothing to classify'
    """
    told = []
    for group in dict.fromkeys(group for group, _ in found):
        means = (f"{found[group, k].accuracy.mean():.1f}" for k in shots if (group, k) in found)
        told.append(f"{'all' if group == 'test' else group} {', '.join(means)}")
    many = f"at {', '.join(map(str, shots))} shot{'s' * (list(shots) != [1])}"
    return f"{step}: {'; '.join(told)} % {many}" if told else f"{step}: nothing to classify"
