import jax
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.checkpoint import save_adapter
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.draws import draws_of as leading_draws
from fsclip_jax.prediction.auto import SHORT_LIST, best_of
from fsclip_jax.prediction.classifier import fit_support, methods_for_pictures
from fsclip_jax.prediction.held_out import HeldOut


def held(*right):
    logits = np.eye(2)[[0 if each else 1 for each in right]]
    zero = np.zeros(len(right), int)
    return HeldOut(logits, zero, zero, zero, zero)


def draws_of(task):
    return leading_draws(jax.tree.map(lambda leaf: leaf[None], task))


def auto(name=None):
    return methods_for_pictures(name, FeatureSpec(8), None)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ([(1, 0, 0, 0)], 0),  # a tie
        ([(1, 1, 0, 0)], 0),  # one more, of one that differs: no more than its error
        ([(1, 1, 1, 0)], 1),  # two more, of two
        ([(1, 1, 1, 0), (1, 1, 1, 1)], 2),  # the better of two
        ([(1, 1, 1, 1), (1, 1, 1, 1)], 1),  # the first of equal ones
        ([(0, 1, 1, 1)], 0),  # three more and one less: two of four
    ],
)
def test_another_method_is_taken_where_it_is_clearly_better(others, expected):
    assert best_of([held(1, 0, 0, 0), *(held(*right) for right in others)]) == expected


def test_text_that_says_nothing_loses_to_the_pictures_alone():
    task, _ = example_task(way=4, shot=8)
    wrong = task._replace(text=task.text[::-1] * -1)
    assert [each.name for each in auto()] == list(SHORT_LIST)
    # The first doubts such text by itself, and is not clearly beaten.
    found = fit_support(draws_of(wrong), "abcd", auto()[1:])
    names = [each.method for each in found.tried]
    assert names == list(SHORT_LIST[1:])
    scores = {each.method: each.score.right for each in found.tried}
    assert scores[found.method.name] == max(scores.values())
    assert found.record["tried"][0]["score"]["asked"] == 32
    # Asked for by name, it is tried alone.
    alone = fit_support(draws_of(wrong), "abcd", auto("gda"))
    assert [each.method for each in alone.tried] == ["gda"]


def test_where_nothing_can_be_held_out_the_default_is_taken():
    task, _ = example_task(way=4, shot=1)
    found = fit_support(draws_of(task), "abcd", auto())
    assert [each.method for each in found.tried] == ["meta_probe"]
    assert found.tried[0].score.accuracy is None
    assert [each.name for each in auto("auto")] == [each.name for each in auto()]


def test_a_checkpoint_is_tried_with_the_others_where_auto_is_asked_for(tmp_path):
    adapter = get_adapter("meta_adapter")
    params = adapter.init(jax.random.key(0), 8)
    save_adapter(tmp_path, adapter.name, params, {"dim": 8}, adapter=adapter)
    both = methods_for_pictures("auto", FeatureSpec(8), tmp_path)
    assert [each.name for each in both] == ["meta_adapter", *SHORT_LIST]
    alone = methods_for_pictures(None, FeatureSpec(8), tmp_path)
    assert [each.name for each in alone] == ["meta_adapter"]
