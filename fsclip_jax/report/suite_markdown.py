"""``suite.md``: the tables of a suite, a row a method and a column a data set."""

from fsclip_jax.report.markdown import grid_table, listing, plain
from fsclip_jax.report.suite import StoredSuite
from fsclip_jax.report.suite_tables import (
    SuitePart,
    draws_line,
    parts_of,
    suite_title,
    troubles,
)


def suite_to_markdown(suite: StoredSuite) -> str:
    """Draw a suite as Markdown; intervals and every draw are in ``suite.json``."""
    parts = parts_of(suite)
    settings = f"{suite.protocol}, settings chosen on {suite.settings.get('select')}"
    listed = troubles(suite)
    lines = [
        f"# {plain(suite_title(suite, parts))}",
        *(plain(part.lead) for part in parts),
        f"{plain(settings)}. {draws_line(suite)} Bold: the best of its column.",
        *(text for part in parts for text in _part(part)),
        *(["## Without a number"] if listed else []),
        *("- " + plain(f"{s}: {cells}: {reason}") for s, reason, _, cells in listed),
        *(["## Note"] if suite.warning else []),
        *(f"- {plain(line)}" for line in suite.warning),
    ]
    return "\n\n".join(lines) + "\n"


def _part(part: SuitePart) -> list[str]:
    title = plain(part.title)
    grids = [f"## {title}: {plain(grid.title)}\n\n{grid_table(grid)}" for grid in part.grids]
    return [*grids, *listing(f"{title}: other averages", part.others)]
