"""What Tab completes: commands, options, values, as the shells that are here do it."""

import re
import shutil
import subprocess

import pytest

from fsclip_jax.adapters.catalog import ADAPTERS
from fsclip_jax.cli.completion import CONFIGS
from fsclip_jax.cli.main import COMMANDS, main
from fsclip_jax.cli.options import options_of

SHELLS = ("bash", "zsh", "fish")
needs_bash = pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripts")
    for shell in SHELLS:
        with pytest.MonkeyPatch.context() as patch:
            said = []
            patch.setattr("builtins.print", lambda text, said=said: said.append(text))
            assert main(["completion", shell]) == 0
        (folder / shell).write_text("".join(said))
    return folder


def at_tab(script, *words):
    """What bash would offer for the last of the words."""
    program = (
        'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        '_fsclip; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    told = subprocess.run(
        ["bash", "-c", program, "bash", script / "bash", "fsclip", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stderr == ""
    return told.stdout.split()


@needs_bash
def test_commands_options_and_values_are_completed(script):
    assert at_tab(script, "") == [*COMMANDS, "--help", "--version"]
    assert at_tab(script, "ev") == ["eval"]
    assert at_tab(script, "bank", "") == ["import", "show"]
    assert at_tab(script, "bank", "show", "--v") == ["--verify"]
    assert at_tab(script, "eval", "--class-s") == ["--class-split"]
    assert at_tab(script, "eval", "--class-split", "") == ["halves", "easy_hard"]
    begun = ["clip_adapter", "clap", "clip_lora"]
    assert at_tab(script, "eval", "--methods", "ridge", "cl") == begun
    assert at_tab(script, "methods", "cl") == begun
    assert at_tab(script, "datasets", "cal") == ["caltech101"]
    assert "openai/clip-vit-base-patch32" in at_tab(script, "train", "--backbone", "openai/")
    assert at_tab(script, "completion", "") == list(SHELLS)
    assert "--support" in at_tab(script, "predict", "--images", "a", "--")


@needs_bash
def test_where_a_file_may_come_it_is_left_to_the_shell(script):
    for words in (
        ["report", ""],
        ["train", ""],
        ["predict", "--support", ""],
        ["eval", "--out", ""],
    ):
        assert at_tab(script, *words) == []
    # A value was given: what may follow now is another flag, not another value.
    assert at_tab(script, "predict", "--method", "ridge", "")[0] == "--support"


@needs_bash
@pytest.mark.parametrize("command", CONFIGS)
def test_every_option_of_every_command_is_completed(script, command):
    flags = [flag for option in options_of(CONFIGS[command]) for flag in option.flags]
    assert at_tab(script, *command.split(), "--") == [*flags, "--compile-cache", "--help"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_knows_every_command_and_method(script, shell):
    text = (script / shell).read_text()
    for config in CONFIGS.values():
        for option in options_of(config):
            assert all(flag.removeprefix("--") in text for flag in option.flags)
    assert set(COMMANDS) | set(ADAPTERS) <= set(re.findall(r"\w+", text))


@pytest.mark.parametrize("shell", SHELLS)
def test_no_word_of_the_script_is_run(script, shell):
    """Texts of help have quotes, backticks and dollars; in the script they are letters."""
    if not shutil.which(shell):
        pytest.skip(f"there is no {shell}")
    check = [shell, "--no-execute" if shell == "fish" else "-n", script / shell]
    assert subprocess.run(check, capture_output=True, text=True).stderr == ""
    assert "`" not in (script / shell).read_text()
