"""From a template and values to a page that needs nothing but itself."""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fsclip_jax.report.intervals import LEAST_IN_BIN
from fsclip_jax.report.metrics import number_parts
from fsclip_jax.report.names import method_title
from fsclip_jax.report.styles import DARK, LIGHT, SERIES_DARK, SERIES_LIGHT, variables
from fsclip_jax.report.tables import split_word


def in_rows(items: Sequence[Any], most: int) -> list[list[Any]]:
    """Part items into rows of at most so many, none of which is left with an odd one.

    Rows are equal where ``most`` or one less allows it, else the first ones are one shorter.

    Example:
        >>> [[len(row) for row in in_rows(range(n), 4)] for n in (3, 5, 8, 9, 11)]
        [[3], [2, 3], [4, 4], [3, 3, 3], [3, 4, 4]]
    """
    count = len(items)
    even = [k for k in (most, most - 1) if k > 1 and count and count % k == 0]
    many = count // even[0] if even else max(1, math.ceil(count / most))
    short, longer = divmod(count, many)
    sizes = [short] * (many - longer) + [short + 1] * longer
    ends = list(itertools.accumulate(sizes, initial=0))
    return [list(items[a:b]) for a, b in itertools.pairwise(ends) if b > a]


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template of ``report/pages``; a name that it uses and that is not given is an error.

    Every value is escaped but what was marked as markup: the plots, which are drawn here.
    """
    return "".join(pieces(template, values))


def pieces(template: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Fill a template as :func:`render` does, a piece at a time."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fsclip_jax", "report/pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"method": method_title, "split": split_word, "in_rows": in_rows}
    environment.globals |= {"number_parts": number_parts, "least_in_bin": LEAST_IN_BIN}
    colours = {
        "colours": variables(LIGHT, SERIES_LIGHT),
        "dark_colours": variables(DARK, SERIES_DARK),
    }
    return environment.get_template(template).generate(colours | dict(values))
