"""The table of promises: every command and every fuzzed reader has its row, every test is there."""

import ast
import re
from pathlib import Path

from fuzz_targets import TARGETS

from fsclip_jax.cli.main import COMMANDS

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "robustness.md").read_text("utf-8")
FUZZED, PROMISED = PAGE.split("## What is promised")
BESIDE = {"predictor.py"}
"""What is promised of what is no command, and is a file that runs."""


def rows(part):
    return [line.strip("|").split("|") for line in part.splitlines() if line.startswith("|")][2:]


def named(cells):
    return [cell.strip("`") for cell in cells if cell.startswith("`")]


def test_every_command_has_a_row_and_no_other():
    assert set(named(row[0] for row in rows(PROMISED))) == COMMANDS.keys() | BESIDE


def test_every_fuzzed_reader_has_a_row_and_no_other():
    assert named(row[0] for row in rows(FUZZED)) == list(TARGETS)


def test_every_promise_has_its_words_and_a_test_that_is_there():
    for of, promised, held in rows(PROMISED):
        found = re.fullmatch(r"`([\w/]+\.py)::(test_\w+)`", held)
        assert of, held
        assert promised, held
        assert found, held
        tree = ast.parse((TESTS / found[1]).read_text("utf-8"))
        assert found[2] in {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}


def test_no_promise_stands_twice():
    pairs = [(of, promised) for of, promised, _ in rows(PROMISED)]
    assert len(set(pairs)) == len(pairs)
