"""``fsclip methods``: every method of the catalog, and one of them in full."""

import dataclasses

import pytest

from fsclip_jax.adapters.catalog import ADAPTERS
from fsclip_jax.cli.main import main
from fsclip_jax.transductive.catalog import REFINEMENTS


def test_every_method_has_a_line(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    rows = {line.split("  ")[0]: [c.strip() for c in line.split("  ") if c] for line in lines}
    assert list(rows) == ["method", *ADAPTERS, *REFINEMENTS]
    assert rows["stata"][1:4] == ["transductive", "10 steps", "queries, text"]
    assert rows["timo"][1:] == ["closed form", "-", "prompts, val", "Li et al."]
    assert rows["clap"][1:3] == ["trained", f"{ADAPTERS['clap']().epochs} epochs"]
    assert rows["coop"][1:4] == ["learned prompt", f"{ADAPTERS['coop']().steps} steps", "words"]
    assert rows["clip_lora"][1:4] == ["trained", "500 steps a shot", "towers"]
    assert rows["meta_adapter"][1:] == ["meta-learned", "-", "-", "Cheng et al."]
    assert rows["prolip"][1:4] == ["trained", "300 epochs", "projection"]
    assert (rows["gda"][3], rows["ss_text_plus"][3]) == ("val", "-")
    assert {len(row) for row in rows.values()} == {5}


@pytest.mark.parametrize("name", [*ADAPTERS, *REFINEMENTS])
def test_each_fits_into_80_columns(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["methods", name]) == 0
    page = capsys.readouterr().out
    assert page.startswith(f"# `{name}`\n\n")
    words = set(page.split())
    for field in dataclasses.fields({**ADAPTERS, **REFINEMENTS}[name]()):
        assert f"`{field.name}`" in words
    prose = [line for line in page.splitlines() if not line.startswith("  ")]
    assert max(map(len, prose)) <= 80


def test_one_in_full(capsys):
    assert main(["methods", "ridge"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("# `ridge`\n")
    assert "V = (Xc^T Xc + penalty I)^-1 Xc^T Yc" in said
    assert "Hoerl and Kennard" in said


@pytest.mark.parametrize("words", [["rigde"], ["--json"]])
def test_wrong_words(words, capsys):
    assert main(["methods", *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
