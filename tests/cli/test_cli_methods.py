"""``fsclip methods``: every method of the catalog, and one of them in full."""

import pytest

from fsclip_jax.adapters.catalog import ADAPTERS
from fsclip_jax.cli.main import main


def test_every_method_has_a_line(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split("\t")[0]: line.split("\t")[1:] for line in lines if "\t" in line}
    assert list(rows) == ["method", *ADAPTERS]
    assert rows["timo"][:3] == ["closed form", "gamma, alpha", "prompts"]
    assert rows["meta_adapter"][:3] == ["meta-learned", "-", "-"]
    assert rows["tip_adapter"][3].startswith('Zhang et al., "Tip-Adapter')
    assert {len(row) for row in rows.values()} == {4}


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
