import jax
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import example_task
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.draws import draws_of as leading_draws
from fsclip_jax.prediction.asked import labels_of_folders, tell_of
from fsclip_jax.prediction.classifier import fit_support, methods_for_pictures
from fsclip_jax.prediction.formats import Row
from fsclip_jax.prediction.quality import ClassScore, Confused, answers_of, doubts, score_of

NAMES = ("ant", "bee", "cat")


def test_answers_are_counted_by_class_and_by_pair():
    labels = [0, 0, 0, 1, 1, 2, 2, 2, 2]
    predicted = [0, 1, 1, 1, 1, 2, 2, 2, 0]
    found = answers_of(labels, predicted, NAMES)
    assert (found.score.right, found.score.asked) == (6, 9)
    assert found.score.accuracy == pytest.approx(66.67)
    # Wilson's interval of 6 of 9, by the published formula.
    assert (found.score.low, found.score.high) == (35.42, 87.94)
    assert found.classes == (
        ClassScore("ant", 1, 3),
        ClassScore("cat", 3, 4),
        ClassScore("bee", 2, 2),
    )
    assert found.confused == (Confused("ant", "bee", 2), Confused("cat", "ant", 1))
    assert str(score_of(0, 0)) == "none asked"


def test_only_labels_that_are_most_improbable_are_in_doubt():
    shares = np.array([[0.05, 0.95], [0.2, 0.8], [0.99, 0.01], [0.001, 0.999]])
    assert doubts(shares, np.array([0, 0, 0, 0])).tolist() == [3, 0]
    assert doubts(shares[:0], np.zeros(0, int)).tolist() == []


def test_a_picture_with_a_wrong_label_is_found_and_so_is_one_that_stands_twice():
    task, _ = example_task(way=4, shot=8, dim=32)
    support = task.support.at[2, 5].set(task.support[0, 3] * 0.9 + task.support[0, 4] * 0.9)
    support = support.at[2, 5].divide(np.linalg.norm(support[2, 5]))
    support = support.at[3, 1].set(support[1, 6])
    task = task._replace(support=support)
    rows = np.arange(100, 132).reshape(1, 4, 8)
    draws = leading_draws(jax.tree.map(lambda leaf: leaf[None], task))._replace(rows=rows)
    fitted = fit_support(draws, "abcd", methods_for_pictures(None, FeatureSpec(32), None))
    # The gravest doubts are of the two that were planted.
    first = {one.picture: one for one in fitted.quality.mislabelled[:2]}
    assert set(first) == {100 + 2 * 8 + 5, 100 + 3 * 8 + 1}
    planted = first[100 + 2 * 8 + 5]
    assert (planted.label, planted.predicted) == ("c", "a")
    assert planted.probability > 10 * planted.probability_of_label
    (twice,) = fitted.quality.twice
    assert (twice.picture, twice.other) == (100 + 8 + 6, 100 + 3 * 8 + 1)
    assert (twice.label, twice.other_label, twice.similarity) == ("b", "d", 1.0)
    assert fitted.quality.labelled == fitted.quality.held_out.score.asked == 32


def row(image, label, best, similarity=0.5):
    return Row(image, label, ((best, 0.5),), similarity)


def test_folders_that_are_called_as_classes_are_compared():
    folders = labels_of_folders(["hot_dog/1.png", "Cat/2.png"], [1, 0], ["cat", "hot dog"])
    names = ["cat", "hot dog"]
    rows = [
        row("in/hot_dog/1.png", "hot dog", "hot dog"),
        row("in/Hot Dog/2.png", "", "cat"),
        row("in/cat/3.png", "cat", "cat"),
        row("in/zebra/4.png", "", "cat"),
        row("in/5.png", "cat", "cat"),
    ]
    found = tell_of(rows, folders, names).by_folder
    assert (found.answers.score.right, found.answers.score.asked) == (2, 3)
    assert found.answers.confused == (Confused("hot dog", "cat", 1),)
    assert (found.left_empty, found.elsewhere, found.elsewhere_empty) == (1, 2, 1)
    # One folder that happens to be called as a class is no folder per class.
    assert tell_of(rows[2:], folders, names).by_folder is None


def test_of_two_classes_with_one_name_either_is_right_and_neither_folder_is_ambiguous():
    names = ["crane", "crane", "cat"]
    keys = ["crane_1/a.png", "crane_2/a.png", "cat/a.png"]
    folders = labels_of_folders(keys, [0, 1, 2], names)
    assert folders == {"crane 1": 0, "crane 2": 1, "cat": 2}
    rows = [row("x/crane_2/b.png", "crane", "crane"), row("x/cat/b.png", "cat", "cat")]
    assert tell_of(rows, folders, names).by_folder.answers.score.right == 2
