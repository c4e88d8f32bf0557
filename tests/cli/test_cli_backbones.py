"""``fsclip backbones``: a table on a terminal, plain lines in a pipe."""

import pytest

from fsclip_jax.cli import backbones
from fsclip_jax.cli.main import main
from fsclip_jax.clip.published import KNOWN


def test_every_model_has_a_line_that_can_be_cut(capsys):
    assert main(["backbones"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = {line.split()[0]: line for line in lines[1 : 1 + len(KNOWN)]}
    assert list(table) == [model.id for model in KNOWN]
    assert table["timm/resnet50_clip.openai"].split() == (
        ["timm/resnet50_clip.openai", "RN50", "102", "M", "224", "1024", "MIT", "59.8", "OpenCLIP"]
    )
    assert table["mini"].split()[-2:] == ["-", "-"]
    assert any(line.startswith("  OpenCLIP: github.com/mlfoundations") for line in lines)


def test_words_choose_and_their_sources_follow(capsys):
    assert main(["backbones", "SIGLIP2", "giant"]) == 0
    out = capsys.readouterr().out
    assert out.count("google/siglip2-giant-opt") == 2
    assert "Tschannen" in out
    assert "OpenCLIP" not in out


def test_a_terminal_gets_whole_names(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert backbones.main(["laion"]) == 0
    assert "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K" in capsys.readouterr().out


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
