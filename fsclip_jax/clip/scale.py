"""What a logit scale can be."""

import math

_LOW, _HIGH = 9.5, 1000.0
"""A CLIP starts at 14 and ends near 100, a SigLIP starts at 10 and ends near 120."""


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
