"""docs/datasets.md says what the table in the program says."""

from pathlib import Path

import pytest

from fsclip_jax.data.catalog import KNOWN_SETS

PAGE = Path(__file__).parents[2] / "docs" / "datasets.md"


@pytest.mark.parametrize("known", KNOWN_SETS, ids=lambda known: known.name)
def test_the_page_has_the_row_of_every_set(known):
    text = PAGE.read_text("utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| `{known.name}` |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == known.title
    assert cells[2:6] == [f"{number:,}" for number in (known.classes, *known.sizes)]
    assert cells[6] == known.templates[0]
    if known.coop:
        assert f"{known.coop.folder}/{known.coop.images}" in cells[7]
        assert known.coop.split in cells[7]
    assert cells[8] == (f"`{known.tfds.spec}` {known.tfds.version}" if known.tfds else "-")
    assert f"- {known.title}: {known.citation}." in text
