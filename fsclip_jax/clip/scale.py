"""What a logit scale can be."""

import math

from fsclip_jax.errors import UserError

LEAST, MOST = 1e-3, 1e6
"""Beyond these, probabilities in float32 are all equal, or overflow."""

_LOW, _HIGH = 9.5, 1000.0
"""A CLIP starts at 14 and ends near 100, a SigLIP starts at 10 and ends near 120."""


def check_scale(scale: float, where: str) -> float:
    """Return a logit scale as it is.

    Raises:
        UserError: it is not within ``LEAST`` and ``MOST``.

    Example:
        >>> check_scale(100.0, "a.npz")
        100.0
    """
    if LEAST <= scale <= MOST:
        return scale
    usual = 0 < scale < math.inf and doubt_scale(scale)
    cause = f"; {usual.partition('; ')[2]}" if usual else ""
    raise UserError(
        f"{where}: the logit scale is {scale}; accepted are {LEAST} to {MOST:,.0f}, "
        f"and OpenAI's CLIP has 100{cause}"
    )


def doubt_scale(scale: float) -> str | None:
    """Say what a logit scale that no CLIP has is likely to be instead; None for a usual one.

    Example:
        >>> doubt_scale(4.605)
        'the logit scale is 4.605, where CLIPs have 10 to 120; likely the logarithm was given for \
the scale, which is 99.98 then'
        >>> doubt_scale(100.0) is None
        True
    """
    if scale < _LOW:
        cause = f"the logarithm was given for the scale, which is {math.exp(scale):.4g} then"
    elif scale > _HIGH:
        cause = f"the scale was given for its logarithm, and is {math.log(scale):.4g}"
    else:
        return None
    return f"the logit scale is {scale:.4g}, where CLIPs have 10 to 120; likely {cause}"
