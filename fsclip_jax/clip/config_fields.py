"""Check the fields that the config files of both layouts share."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fsclip_jax.clip.config import Activation
from fsclip_jax.errors import UserError, first_line

Built = TypeVar("Built")

CLIP_PREPROCESSING = (
    "accepted is a bicubic or bilinear resize, of the shortest edge with a centre crop of that "
    "size, or of both edges to it"
)
"""What an error says of a preprocessing that no CLIP has."""

_ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def build_config(make: Callable[[], Built]) -> Built:
    """Build from a file's fields; one that is missing or fits no CLIP is a ``UserError``."""
    try:
        return make()
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"the config lacks the field {error}; take the model's own") from error
    except (ValueError, TypeError, ArithmeticError) as error:
        raise UserError(
            f"the config describes no CLIP that can be built: {first_line(error)}"
        ) from error


def square_side(size: Any, *keys: str) -> int:
    """Read the side of a square: a number, some equal numbers, or a mapping of such by ``keys``.

    Raises:
        UserError: the sides differ, or there are none.

    Example:
        >>> square_side(32), square_side([32, 32]), square_side({"height": 32}, "height")
        (32, 32, 32)
    """
    sides = [size.get(key) for key in keys] if isinstance(size, Mapping) else size
    distinct = set(sides) if isinstance(sides, list | tuple) else {sides}
    side = distinct.pop() if len(distinct) == 1 else None
    if not isinstance(side, int):
        raise UserError(f"the config has the size {size!r}; only a square is accepted")
    return side


def activation_of(name: str) -> Activation:
    """Read Hugging Face's name of an activation; a ``UserError`` lists what is accepted."""
    if name not in _ACTIVATIONS:
        accepted = ", ".join(_ACTIVATIONS)
        raise UserError(f"the config has the activation {name!r}; accepted are {accepted}")
    return _ACTIVATIONS[name]


def activation_name(activation: Activation) -> str:
    """Write an activation as Hugging Face does: the inverse of ``activation_of``."""
    return next(name for name, ours in _ACTIVATIONS.items() if ours == activation)


def three_numbers(values: Sequence[float], name: str) -> tuple[float, float, float]:
    """Read one number a channel; anything else is a ``UserError``."""
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is {values!r}; wanted are three numbers") from error
    return red, green, blue
