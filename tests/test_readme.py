"""The Python of the README runs, and its example of a method keeps the contract."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.adapters.catalog import example_task

ROOT = Path(__file__).parents[1]


def python_blocks():
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)


def test_refining_by_hand():
    names = {}
    exec(python_blocks()[0], names)
    np.testing.assert_allclose(jnp.linalg.norm(names["better_text"], axis=-1), 1, rtol=1e-5)
    assert not np.allclose(names["better_text"], names["text"], atol=1e-2)


def test_a_method_in_thirty_lines(key):
    (block,) = [block for block in python_blocks() if "NearestShot" in block]
    assert len(block.splitlines()) <= 30
    names = {}
    exec(block, names)
    method = names["NearestShot"]()
    assert isinstance(method, Adapter)
    task, query = example_task(way=4)
    params = method.init(key, 8)

    def logits(task):
        return method.logits(method.fit(params, task, key), query.features)

    order = jnp.array([2, 0, 3, 1])
    moved = task._replace(
        support=task.support[order], support_mask=task.support_mask[order], text=task.text[order]
    )
    np.testing.assert_allclose(jax.jit(logits)(moved), logits(task)[:, order], rtol=1e-5)
