"""Fitting and predicting in pieces, and compiling once."""

import jax
import jax.numpy as jnp
import numpy as np
from synthetic_bank import CLASSES

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.evaluation import prepare
from fsclip_jax.evaluation.draws import draw_supports
from fsclip_jax.evaluation.label_spaces import Group, LabelSpace
from fsclip_jax.fitting import fitted
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.fitted import fit_and_predict
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Choice


def test_small_pieces_give_the_same_answers(bank, monkeypatch):
    whole = LabelSpace(np.arange(CLASSES), (Group("test", np.arange(CLASSES)),))
    draws = draw_supports(jax.random.key(1), bank.select(["train"]), whole, 2, 5)
    queries = {"test": prepare.queries_of(bank, "test", whole, whole.groups[0])}
    adapter = get_adapter("tip_adapter")
    params = {"alpha": jnp.linspace(0.5, 3, 5), "beta": jnp.linspace(1, 6, 5)}
    method, choice = Method("tip_adapter", adapter, params), Choice(params, True, {})
    at_once = fit_and_predict(Engine(), method, choice, draws.task, queries)
    for piece in (1, 400, 1000):
        monkeypatch.setattr(fitted, "PIECE", piece)
        in_pieces = fit_and_predict(Engine(), method, choice, draws.task, queries)
        np.testing.assert_array_equal(
            in_pieces.predictions["test"].predicted, at_once.predictions["test"].predicted
        )
    assert at_once.costs["fit_seconds"] > 0
    assert at_once.predict_us_per_query["test"] > 0


def test_what_is_compiled_once_is_used_again():
    engine, traced = Engine(), []

    def double(x):
        traced.append(1)
        return 2 * x

    for size in (2, 2, 3):
        engine.run("double", double, jnp.ones(size))
    assert len(traced) == 2


def test_an_engine_with_a_limit_forgets_what_was_used_longest_ago():
    engine, traced = Engine(most=2), []

    def doubling():  # a function of its own each time: JAX itself remembers those it has traced
        return lambda x: traced.append(len(x)) or 2 * x

    for size in (2, 3, 2, 4, 2, 3):  # 4 displaces 3, not 2
        engine.run("double", doubling(), jnp.ones(size))
    assert traced == [2, 3, 4, 3]
