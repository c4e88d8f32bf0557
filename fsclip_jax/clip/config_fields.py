"""Check the fields that the config files of both layouts share."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fsclip_jax.clip.config import Activation
from fsclip_jax.errors import UserError, first_line

Built = TypeVar("Built")

CLIP_PREPROCESSING = (
    "accepted is a bicubic or bilinear resize, of the shortest edge with a centre crop of no more "
    "than that, or of both edges"
)
"""What an error says of a preprocessing that no CLIP has."""

MOST_SIDE, MOST_LAYERS, MOST = 4096, 1024, 2**31 - 1
"""Of the side of a picture or a patch in pixels, of the blocks of a tower, of any other size."""

_MOST = {"layers": MOST_LAYERS, "num_hidden_layers": MOST_LAYERS}
_FROM_ZERO = ("eos_token_id", "eos_id", "pad_id", "num_register_tokens")
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
    given = [size.get(key) for key in keys] if isinstance(size, Mapping) else size
    sides: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    if not sides or any(type(side) is not int or side != sides[0] for side in sides):
        raise UserError(f"the config has the size {short(size)}; only a square is accepted")
    if not 1 <= sides[0] <= MOST_SIDE:
        raise UserError(
            f"the config has a side of {short(sides[0])} pixels; 1 to {MOST_SIDE} are accepted"
        )
    return int(sides[0])


def short(value: Any) -> str:
    """Write a value of a file, of which a line has room for the beginning.

    Example:
        >>> short(7), short("x" * 100)
        ('7', "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...")
    """
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}..."


def is_size(name: str, value: Any) -> bool:
    """Whether a value is a whole number that a field of a tower can have.

    Example:
        >>> is_size("width", 768), is_size("width", 0), is_size("layers", 10**6)
        (True, False, False)
    """
    low = 0 if name in _FROM_ZERO else 1
    return type(value) is int and low <= value <= _MOST.get(name, MOST)


def require_sizes(values: Mapping[str, Any], names: Sequence[str], where: str = "") -> None:
    """Refuse whole numbers out of bounds; a field that is left out is not looked at.

    Raises:
        UserError: all of them are named.
    """
    bad = [
        f"{where}{name}={short(values[name])}"
        for name in names
        if name in values and not is_size(name, values[name])
    ]
    if bad:
        raise UserError(
            f"the config has {', '.join(bad)}; accepted are whole numbers from 1 to {MOST:,}, and "
            f"up to {MOST_LAYERS:,} layers"
        )


def activation_of(name: str) -> Activation:
    """Read Hugging Face's name of an activation; a ``UserError`` lists what is accepted."""
    if name not in _ACTIVATIONS:
        accepted = ", ".join(_ACTIVATIONS)
        raise UserError(f"the config has the activation {short(name)}; accepted are {accepted}")
    return _ACTIVATIONS[name]


def activation_name(activation: Activation) -> str:
    """Write an activation as Hugging Face does: the inverse of ``activation_of``."""
    return next(name for name, ours in _ACTIVATIONS.items() if ours == activation)


def three_numbers(values: Any, name: str) -> tuple[float, float, float]:
    """Read one number a channel; anything else is a ``UserError``."""
    try:
        red, green, blue = (float(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{name} is {short(values)}; wanted are three numbers") from error
    if not all(math.isfinite(value) and abs(value) <= 1000 for value in (red, green, blue)):
        raise UserError(f"{name} is {short(values)}; wanted are three numbers from -1000 to 1000")
    return red, green, blue


def three_divisors(values: Any, name: str) -> tuple[float, float, float]:
    """Read one number a channel to divide by; anything else is a ``UserError``."""
    divisors = three_numbers(values, name)
    if min(divisors) < 0.001:
        raise UserError(f"{name} is {short(values)}; wanted are three numbers from 0.001 to 1000")
    return divisors
