"""The Python of the page on adapters runs, and its example is a method."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.adapters.catalog import example_task

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=["module", "method"])
def test_runs(block):
    assert len(block.splitlines()) <= 30
    exec(block, {"__name__": "example"})


def test_the_example_is_a_method():
    names = {"__name__": "example"}
    exec(BLOCKS[1], names)
    method = names["NearestShot"]()
    assert isinstance(method, Adapter)
    task, query = example_task(way=3)
    state = method.fit({"weight": jnp.float32(0.0)}, task, jax.random.key(0))
    zero_shot = task.logit_scale * query.features @ task.text.T
    np.testing.assert_allclose(method.logits(state, query.features), zero_shot, atol=1e-4)
