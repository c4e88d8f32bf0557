"""``fsclip backbones``: a table on a terminal, plain lines in a pipe."""

import pytest

from fsclip_jax.cli.main import main
from fsclip_jax.clip.published import KNOWN


def test_every_model_has_an_aligned_line(capsys):
    assert main(["backbones"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = {line.split()[0]: line for line in lines[1 : 1 + len(KNOWN)]}
    assert list(table) == [model.id for model in KNOWN]
    assert table["timm/resnet50_clip.openai"].split() == (
        ["timm/resnet50_clip.openai", "102M", "224", "1024", "MIT", "59.8"]
    )
    assert table["mini"].split()[-2:] == ["Apache-2.0", "-"]
    starts = {line.index(line.split()[4]) for line in table.values()}
    assert len(starts) == 1, "licences stand below one another"
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("  OpenCLIP: github.com/mlfoundations") for line in lines)


def test_all_is_said_about_one(capsys):
    assert main(["backbones", "b/32"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("openai/clip-vit-base-patch32\n  is: ViT-B/32\n  parameters: 151M\n")
    assert "  pictures: 224 x 224 pixels, to 512 numbers\n  licence: MIT\n" in said
    assert "63.3 % zero-shot top-1, as published by OpenCLIP" in said
    assert "  use: --backbone openai/clip-vit-base-patch32\n" in said
    assert max(map(len, said.splitlines())) <= 80


def test_words_choose_and_their_sources_follow(capsys):
    assert main(["backbones", "SIGLIP2", "giant"]) == 0
    out = capsys.readouterr().out
    assert out.count("google/siglip2-giant-opt") == 2
    assert "Tschannen" in out
    assert "OpenCLIP" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["xyzzy"], "no known backbone is called xyzzy"),
        (["rn51"], "did you mean rn"),
        (["--json"], "unknown flag --json"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(words, said, capsys):
    assert main(["backbones", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error


def test_help_says_what_else_loads(capsys):
    assert main(["backbones", "--help"]) == 0
    assert "OWNER/NAME@REVISION" in capsys.readouterr().out
