"""Colours of the pages and how each method is drawn, the same in every plot and table."""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from fsclip_jax.report.names import method_of

# Plots are drawn in colours that stand for a role. They become fixed colours in a file, and CSS
# variables in a page, where they follow the reader's light or dark theme.
INK, FAINT, PAPER, SOFT, QUIET = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05"
SERIES = tuple(f"#0a0c{i:02x}" for i in range(8))

# One colour, one meaning: blue is better and orange worse, no method has either, and all else that
# is marked (the best, the true class, a warning, attention) is in the ink of the page.
LIGHT = {
    "ink": "#1c1c1e", "faint": "#e3e3e6", "paper": "#ffffff", "soft": "#5c5c66",
    "quiet": "#b4b4bd", "wash": "#f6f6f7", "alert": "#1c1c1e", "good": "#2467c9", "bad": "#d9541e",
}  # fmt: skip
DARK = {
    "ink": "#ececf0", "faint": "#34343b", "paper": "#131316", "soft": "#a3a3ae",
    "quiet": "#62626d", "wash": "#1c1c21", "alert": "#ececf0", "good": "#74a7f2", "bad": "#ff9a5c",
}  # fmt: skip
SERIES_LIGHT = (
    "#5a5a64", "#8a6d00", "#2a7d52", "#6f4ac2", "#c8254e", "#0c7f8c", "#a8479b", "#7a5230",
)  # fmt: skip
SERIES_DARK = (
    "#b4b4be", "#d9b84a", "#5fbf8c", "#b394f0", "#ff7f92", "#4fc0cc", "#e08fd2", "#c9a184",
)  # fmt: skip

MOST_COLOURS = 8
"""Methods that colours can tell apart. Where there are more, only some keep theirs."""


@dataclass(frozen=True)
class Style:
    """How a method is drawn: number of its colour, dashes, width, and whether in grey."""

    colour: int
    dashes: str = "-"
    width: float = 1.6
    quiet: bool = False

    @property
    def css(self) -> str:
        """Its colour in a page."""
        return "var(--quiet)" if self.quiet else f"var(--series-{self.colour})"

    @property
    def role(self) -> str:
        """Its colour in a plot, before :func:`recolour`."""
        return QUIET if self.quiet else SERIES[self.colour]


KNOWN = {
    "zero_shot": Style(0, dashes=":"),
    "prototype": Style(1),
    "text_prototype": Style(2),
    "tip_adapter": Style(3),
    "meta_adapter": Style(4),
}
"""Looks that stay the same from report to report."""

_DASHES = {"_untrained": "--", "_as_published": "-."}
"""How variants are drawn, in the colour of their method."""


def styles(methods: Sequence[str], leading: Container[str] = ()) -> dict[str, Style]:
    """Return how each method is drawn: as ``KNOWN`` says, or in a colour that none other has.

    Where there are too many methods, only those in ``leading`` get one, and the others are grey.
    A variant has the colour of its method.

    Example:
        >>> styles(["zero_shot", "mine"])["mine"].css
        'var(--series-5)'
    """
    family = {method: method_of(method)[0] for method in methods}
    few = len(set(family.values())) <= MOST_COLOURS
    there = set(family.values())
    left = [i for i in range(len(SERIES)) if i not in {look.colour for look in KNOWN.values()}]
    left += [look.colour for name, look in KNOWN.items() if name not in there]
    looks = {name: look for name, look in KNOWN.items() if name in there}
    for method, name in family.items():
        if name not in looks and left and (few or method in leading):
            looks[name] = Style(left.pop(0))
    quiet = Style(0, width=1.1, quiet=True)
    found = {}
    for method, name in family.items():
        look, ending = looks.get(name, quiet), method_of(method)[1]
        look = replace(look, dashes=_DASHES[ending], width=1.3) if ending else look
        found[method] = replace(look, width=2.6) if method in leading else look
    return found


def recolour(svg: str, *, page: bool) -> str:
    """Replace the colours that stand for a role by a page's CSS variables or the light theme's."""
    names = {INK: "ink", FAINT: "faint", PAPER: "paper", SOFT: "soft", QUIET: "quiet"}
    found = {role: f"var(--{name})" if page else LIGHT[name] for role, name in names.items()}
    for i, role in enumerate(SERIES):
        found[role] = f"var(--series-{i})" if page else SERIES_LIGHT[i]
    return re.sub("#0a0[bc]0[0-9a-f]", lambda hit: found.get(hit[0], hit[0]), svg)


def variables(roles: Mapping[str, str], series: Sequence[str]) -> str:
    """Write colours as CSS variables.

    Example:
        >>> variables({"ink": "#000"}, ["#f00"])
        '--ink: #000; --series-0: #f00;'
    """
    named = {**roles, **{f"series-{i}": colour for i, colour in enumerate(series)}}
    return " ".join(f"--{name}: {colour};" for name, colour in named.items())
