"""What docstrings show is what happens."""

import doctest
import importlib
import pkgutil

import pytest

import fsclip_jax

MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(fsclip_jax.__path__, "fsclip_jax.")
    if not found.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module(name):
    module = importlib.import_module(name)
    assert not doctest.testmod(module, optionflags=doctest.ELLIPSIS).failed
