import jax
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import example_task
from fsclip_jax.errors import UserError
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.draws import draws_of as leading_draws
from fsclip_jax.prediction.classifier import answer, fit_support, methods_for_pictures
from fsclip_jax.prediction.held_out import HeldOut
from fsclip_jax.prediction.unknown import ENOUGH, Familiar, find_threshold, is_familiar, score


def held(same, other, logits):
    count = len(same)
    labels = np.zeros(count, np.int32)
    return HeldOut(np.asarray(logits), labels, labels, np.asarray(same), np.asarray(other))


def test_the_score_is_that_of_the_equation():
    familiar = Familiar((2.0, 0.5), (0.8, 0.1), None)
    logits = np.log(np.array([[np.e**3 - 1, 1.0]]))  # whose energy is 3
    assert score(logits, np.array([0.7]), familiar) == pytest.approx([2.0 - 1.0])
    assert is_familiar(logits, np.array([0.7]), familiar).tolist() == [True]
    assert is_familiar(logits, np.array([0.4]), familiar).tolist() == [False]
    surest = np.log(1 - np.exp(-3))  # of a probability of (e^3 - 1) / e^3
    more = familiar._replace(softmax=(surest + 0.3, 0.1))
    assert score(logits, np.array([0.7]), more) == pytest.approx([1.0 - 3.0])


def test_the_threshold_lies_between_the_classes_and_what_is_none_of_them():
    rng = np.random.default_rng(0)
    near, far = rng.uniform(0.8, 0.9, 40), rng.uniform(0.3, 0.5, 40)
    logits = np.stack([rng.uniform(20, 25, 40), rng.uniform(5, 8, 40)], 1)
    found = find_threshold(held(near, far, logits))
    assert (found.kept, found.caught) == (1.0, 1.0)
    assert is_familiar(logits, near, found).all()
    assert not is_familiar(logits[:, 1:], far, found).any()
    assert found.softmax is None  # the two tell them apart alone
    # Where the two cannot be told apart, nine of ten stay known.
    alike = find_threshold(held(near, near, np.stack([logits[:, 0]] * 2, 1)))
    assert alike.kept >= 0.9


def test_softmax_has_a_say_where_it_tells_them_better_apart():
    rng = np.random.default_rng(0)
    # One class of 21 has half of the probability, the others share the rest; energies vary more.
    others = rng.normal(-np.log(20), 0.1, (40, 20))
    logits = np.concatenate([np.zeros((40, 1)), others], 1) + rng.normal(0, 3, (40, 1))
    alike = rng.uniform(0.8, 0.9, 40)
    found = find_threshold(held(alike, alike, logits))
    assert found.softmax[0] == pytest.approx(np.log(0.5), abs=0.05)
    assert found.caught == 1.0


def test_of_too_few_pictures_no_threshold_is_told():
    assert (
        find_threshold(held([0.9] * (ENOUGH - 1), [0.1] * (ENOUGH - 1), np.eye(2)[[0] * 4])) is None
    )
    task, query = example_task(way=3, shot=1)
    draws = leading_draws(jax.tree.map(lambda leaf: leaf[None], task))
    lone = fit_support(draws, "abc", methods_for_pictures(None, FeatureSpec(8), None))
    with pytest.raises(UserError, match="needs 5 of them: there are 0; give more pictures"):
        answer(lone, query.features, "auto")


def test_an_off_class_picture_is_left_out_and_the_closest_is_named():
    task, query = example_task(way=4, shot=10, query=40, dim=32)
    draws = leading_draws(jax.tree.map(lambda leaf: leaf[None], task))
    # Three classes are learned; of the fourth there are pictures only.
    three = draws._replace(
        task=jax.tree.map(lambda leaf: leaf[:, :3] if leaf.ndim > 1 else leaf, draws.task),
        plain=draws.plain[:, :3],
        domains=draws.domains[:, :3],
    )
    fitted = fit_support(three, "abc", methods_for_pictures("prototype", FeatureSpec(32), None))
    features, labels = np.asarray(query.features), np.asarray(query.labels)
    told = answer(fitted, features, "auto")
    assert told.known[labels < 3].mean() > 0.8
    assert told.known[labels == 3].mean() < 0.3
    support = np.asarray(task.support)[:3].reshape(30, 32)
    np.testing.assert_array_equal(told.nearest, (features @ support.T).argmax(-1))
    np.testing.assert_allclose(told.similarity, (features @ support.T).max(-1), rtol=1e-5)
    half = answer(fitted, features, 0.5)
    np.testing.assert_array_equal(half.known, half.probabilities.max(-1) >= 0.5)
    assert answer(fitted, features).known.all()
