import itertools
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters import search
from fsclip_jax.adapters.base import Grid
from fsclip_jax.adapters.catalog import ADAPTERS, example_task, get_adapter
from fsclip_jax.adapters.search import answers_right, count_right, grid_settings

KEY = jax.random.key(0)


@dataclass(frozen=True)
class Toy:
    """Powers of the similarity to the shots, mixed with the text: a scalar of either kind."""

    name: ClassVar[str] = "toy"
    grid: ClassVar[Grid] = Grid(
        refit={"power": (1.0, 3.0), "shift": (0.0, 0.4, 0.8)},
        late={"alpha": (0.0, 0.5, 2.0, 8.0), "cut": (-1.0, 0.3)},
    )

    def init(self, key, dim):
        del key, dim
        return {"power": jnp.float32(1.0), "shift": jnp.float32(0.0)}

    def fit(self, params, task, key):
        del key
        shots = task.support.mean(1) ** 3 * params["power"] + params["shift"]
        return {"shots": shots, "text": task.text, "alpha": params["alpha"], "cut": params["cut"]}

    def logits(self, state, query):
        near = jnp.maximum(query @ state["shots"].T, state["cut"])
        return query @ state["text"].T + state["alpha"] * near


@pytest.fixture(scope="module")
def task_and_query():
    task, query = example_task(way=6, shot=2, query=41, dim=8)
    return task, query._replace(mask=query.mask.at[5:9].set(False))


def by_hand(adapter, task, query):
    """One fit and one answer a setting, as anybody would write it."""
    values = grid_settings(adapter)
    counts = []
    for setting in zip(*values.values(), strict=True):
        params = {name: jnp.float32(x) for name, x in zip(values, setting, strict=True)}
        best = adapter.logits(adapter.fit(params, task, KEY), query.features).argmax(-1)
        counts.append(int(((best == query.labels) & query.mask).sum()))
    return np.array(counts)


@pytest.mark.parametrize("block", [2**22, 6 * 8 * 10])
def test_every_setting_counts_as_by_hand(task_and_query, monkeypatch, block):
    monkeypatch.setattr(search, "BLOCK", block)
    task, query = task_and_query
    expected = by_hand(Toy(), task, query)
    assert len(set(expected)) > 5
    counts = jax.jit(lambda t, q: count_right(Toy(), {}, t, q, KEY))(task, query)
    np.testing.assert_array_equal(counts, expected)


def test_of_equal_logits_the_first_is_the_answer_and_of_none_nothing_is_right():
    logits = jnp.round(jax.random.normal(KEY, (4, 50, 5)))
    labels = jnp.arange(50) % 5
    expected = np.asarray(logits).argmax(-1) == np.asarray(labels)
    last = 4 - np.asarray(logits)[..., ::-1].argmax(-1) == np.asarray(labels)
    assert (expected != last).sum() > 10, "logits tie"
    np.testing.assert_array_equal(answers_right(logits, labels), expected)
    assert not answers_right(jnp.full((2, 3), jnp.nan), jnp.array([0, 1])).any()


def test_a_fit_is_made_once_for_all_late_values(task_and_query, monkeypatch):
    fits = []
    plain = Toy.fit
    monkeypatch.setattr(Toy, "fit", lambda *args: fits.append(1) or plain(*args))
    task, query = task_and_query
    jax.jit(lambda t, q: count_right(Toy(), {}, t, q, KEY)).lower(task, query)
    assert len(fits) == 1


def test_settings_are_products_with_the_last_scalar_fastest():
    values = grid_settings(Toy())
    assert list(values) == ["power", "shift", "alpha", "cut"]
    wanted = itertools.product((1.0, 3.0), (0.0, 0.4, 0.8), (0.0, 0.5, 2.0, 8.0), (-1.0, 0.3))
    np.testing.assert_allclose(np.stack(list(values.values()), 1), list(wanted), rtol=1e-6)


def test_grids_of_a_method_lie_one_after_the_other():
    values = grid_settings(get_adapter("tip_adapter"))
    assert values["beta"][0] == values["beta"][4000] == pytest.approx(0.1)
    assert values["beta"][:4000].max() < 7 < values["beta"][4000:].max()


def test_grids_that_name_different_scalars_are_refused():
    class Mixed(Toy):
        grid = (Grid(late={"alpha": (1.0,)}), Grid(late={"beta": (1.0,)}))

    with pytest.raises(ValueError, match="different scalars"):
        grid_settings(Mixed())


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_fixed_setting_names_what_is_searched(name):
    adapter = get_adapter(name)
    params = adapter.init(KEY, 8)
    for scalar in grid_settings(adapter):
        assert jnp.shape(params[scalar]) == ()
