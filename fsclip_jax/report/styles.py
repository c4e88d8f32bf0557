"""Colours of the pages and how each method is drawn, the same in every plot and table."""

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

# Plots are drawn in colours that stand for a role. They become fixed colours in a file, and CSS
# variables in a page, where they follow the reader's light or dark theme.
INK, FAINT, PAPER, SOFT, QUIET = "#0a0b01", "#0a0b02", "#0a0b03", "#0a0b04", "#0a0b05"
SERIES = tuple(f"#0a0c{i:02x}" for i in range(8))

LIGHT = {
    "ink": "#1c1c1e", "faint": "#e3e3e6", "paper": "#ffffff", "soft": "#5c5c66",
    "quiet": "#b4b4bd", "wash": "#f6f6f7", "alert": "#9a3412", "good": "#2467c9", "bad": "#c2571a",
}  # fmt: skip
DARK = {
    "ink": "#ececf0", "faint": "#34343b", "paper": "#131316", "soft": "#a3a3ae",
    "quiet": "#62626d", "wash": "#1c1c21", "alert": "#fdba74", "good": "#74a7f2", "bad": "#f0975c",
}  # fmt: skip
SERIES_LIGHT = (
    "#74747e", "#a9690f", "#2a7d52", "#2467c9", "#cb2f2b", "#7446b3", "#0c7f8c", "#94457a",
)  # fmt: skip
SERIES_DARK = (
    "#a0a0ab", "#e0aa4e", "#5fbf8c", "#74a7f2", "#ff7d72", "#b394e6", "#4fc0cc", "#d68cc0",
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
    "meta_adapter": Style(4, width=2.6),
    "meta_adapter_untrained": Style(4, dashes="--", width=1.3),
}
"""Looks that stay the same from report to report. A variant shares the colour of its method."""


def styles(methods: Sequence[str], leading: Container[str] = ()) -> dict[str, Style]:
    """Return how each method is drawn: as ``KNOWN`` says, or in the colours left over.

    Where there are too many methods, only those in ``leading`` get one, and the others are grey.

    Example:
        >>> styles(["zero_shot", "mine"])["mine"].css
        'var(--series-5)'
    """
    left = [i for i in range(len(SERIES)) if i not in {style.colour for style in KNOWN.values()}]
    few = len(methods) <= MOST_COLOURS
    looks: dict[str, Style] = {}
    for method in (m for m in methods if m not in KNOWN and (few or m in leading)):
        new = sum(name not in KNOWN for name in looks)
        looks[method] = Style(left[new % len(left)], "-" if new < len(left) else "-.")
    grey = Style(0, width=1.1, quiet=True)
    return {method: KNOWN.get(method) or looks.get(method, grey) for method in methods}


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
