"""The configurations that come along say what they are, and hold together."""

import ast
import runpy
from pathlib import Path

import pytest

from fsclip_jax.adapters.catalog import ADAPTERS
from fsclip_jax.evaluation.config import check_eval_config

FILES = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_configuration_says_its_command_and_is_accepted(file):
    names = runpy.run_path(str(file))
    doc = ast.get_docstring(ast.parse(file.read_text()))
    assert f"configs/{file.name}" in doc
    assert {"evaluate", "suite"} & set(names)
    if "evaluate" in names:
        check_eval_config(names["evaluate"])
        assert set(names["evaluate"].methods) <= {*ADAPTERS, "all"}


def test_every_protocol_has_one():
    found = [runpy.run_path(str(file)).get("evaluate") for file in FILES]
    protocols = {config.protocol for config in found if config}
    assert protocols == {"full_way", "cross_category", "cross_dataset", "domain_shift", "episodic"}
    assert any(config.class_split == "easy_hard" for config in found if config)
