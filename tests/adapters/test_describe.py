"""The pages of methods are made of docstrings: so each must have what a page needs."""

import re

import pytest

from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.adapters.describe import kind_of, method_markdown
from fsclip_jax.transductive.catalog import REFINEMENTS


@pytest.mark.parametrize("name", [*ADAPTERS, *REFINEMENTS])
def test_every_method_has_an_equation_a_source_and_every_field(name):
    text = method_markdown(name, level=3)
    assert text.startswith(f"### `{name}`\n")
    assert "``" not in text.replace("```", "")
    assert ":func:" not in text
    assert re.search(r"`[^`\n]*[=*^+.][^`\n]*`|```\n[^`]*=[^`]*```", text), "no equation"
    assert re.search(r"^- Source: .{20,}", text, re.M), "no source"
    # A field of which the docstring says nothing would have an empty cell.
    assert not re.search(r"\| +\|$", text, re.M)


def test_what_a_section_says_is_what_the_method_is():
    text = method_markdown("tip_adapter_f")
    assert "| `epochs` | 20 |" in text
    assert "`alpha` 1, `beta` 5.5" in text
    assert "8,000 settings" in text
    assert "- Kind: closed form, needs prompts." in method_markdown("timo")


def test_kinds():
    kinds = {name: kind_of(get_adapter(name)) for name in ADAPTERS}
    assert kinds["gda"] == "closed form"
    assert kinds["clap"] == "trained on the shots"
    assert kinds["cocoop"] == "learned prompt"
    assert kinds["meta_prior"] == "meta-learned"
