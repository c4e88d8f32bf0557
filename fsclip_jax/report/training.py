"""How an adapter of a comparison was trained: numbers of its log."""

from dataclasses import dataclass

MOST_POINTS = 400
"""Points of a curve that are kept, and read."""

_MOST = 1e9


@dataclass(frozen=True)
class TrainingCurve:
    """What moved while an adapter was trained.

    Attributes:
        step: of ``loss`` and ``accuracy`` (percent), means over training episodes.
        val_step: of ``val_accuracy``, percent on held-out classes.
    """

    method: str
    step: tuple[int, ...] = ()
    loss: tuple[float, ...] = ()
    accuracy: tuple[float, ...] = ()
    val_step: tuple[int, ...] = ()
    val_accuracy: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Check lengths and bounds: reports come from anywhere."""
        if not len(self.step) == len(self.loss) == len(self.accuracy) <= MOST_POINTS:
            raise ValueError(f"a training curve has one loss a step, {MOST_POINTS} at most")
        if not len(self.val_step) == len(self.val_accuracy) <= MOST_POINTS:
            raise ValueError(f"a training curve has one val accuracy a step, {MOST_POINTS} at most")
        for steps in (self.step, self.val_step):
            if list(steps) != sorted(set(steps)) or any(not 0 <= step < 2**31 for step in steps):
                raise ValueError("the steps of a training curve must rise from 0")
        if any(not 0 <= value <= 100 for value in (*self.accuracy, *self.val_accuracy)):
            raise ValueError("the accuracy of a training curve must be 0 to 100")
        if any(not -_MOST <= value <= _MOST for value in self.loss):
            raise ValueError(f"the loss of a training curve must be within {_MOST:g}")
