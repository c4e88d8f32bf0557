"""Base classes that are easy, novel classes that are hard, by zero-shot on train images."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from recomputed import check_report
from synthetic_bank import CLASSES, DIM, synthetic_bank

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.adapters.checkpoint import save_adapter
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig, check_eval_config
from fsclip_jax.evaluation.evaluate import evaluate_bank
from fsclip_jax.evaluation.label_spaces import class_halves
from fsclip_jax.features.easy_hard import easy_hard, zero_shot_by_class
from fsclip_jax.report.rows import report_to_json
from fsclip_jax.training.tasks import choose_classes

CONFIG = EvalConfig(
    protocol="cross_category",
    class_split="easy_hard",
    methods=("zero_shot", "prototype"),
    shots=(2,),
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    return synthetic_bank(tmp_path_factory.mktemp("banks") / "plain", per_class=[6] * 6 + [5])


def test_the_sizes_are_those_of_the_published_lists():
    published = {1000: 700, 397: 277, 100: 70, 101: 70, 47: 32, 10: 7}
    for classes, easy in published.items():
        found = easy_hard(np.linspace(0, 1, classes))
        assert [len(part) for part in found] == [easy, classes - easy]
        assert min(found[0]) > max(found[1])


def test_the_split_is_by_accuracy_on_train_images(bank):
    logits = bank.features[0] @ bank.text_features.T
    right = logits.argmax(1) == bank.labels
    by_class = [right[(bank.labels == c) & (bank.splits == 0)].mean() for c in range(CLASSES)]
    np.testing.assert_allclose(zero_shot_by_class(bank), by_class)
    easy, hard = class_halves(CONFIG, bank)
    assert sorted([*easy, *hard]) == list(range(CLASSES))
    assert len(easy) == 4
    assert min(np.take(by_class, easy)) >= max(np.take(by_class, hard))


def test_no_test_label_has_a_part_in_it(bank):
    def shuffled(split):
        labels = bank.labels.copy()
        rows = np.flatnonzero(bank.splits == split)
        labels[rows] = np.random.default_rng(0).permutation(labels[rows])
        return zero_shot_by_class(dataclasses.replace(bank, labels=labels))

    for split in (1, 2):
        np.testing.assert_array_equal(shuffled(split), zero_shot_by_class(bank))
    assert not np.array_equal(shuffled(0), zero_shot_by_class(bank))


def test_classes_without_train_images_are_hard(tmp_path):
    bank = synthetic_bank(tmp_path / "bank", per_class=[0, 6, 6, 6, 6, 6, 6])
    assert zero_shot_by_class(bank)[0] == -1
    assert 0 in easy_hard(zero_shot_by_class(bank))[1]


@pytest.mark.parametrize("label_space", ["restricted", "generalised"])
def test_the_report_follows_from_its_answers(bank, tmp_path, label_space):
    config = dataclasses.replace(CONFIG, label_space=label_space)
    found = evaluate_bank(config, bank, tmp_path)
    assert check_report(json.loads(report_to_json(found.report)), found.predictions) == 6
    easy, hard = class_halves(CONFIG, bank)
    for name, ids in (("base", easy), ("novel", hard)):
        space = found.predictions.space(name)
        group = found.predictions.group(name)
        assert set(space.classes[group.labels]) == set(ids)
        assert len(space.classes) == (CLASSES if label_space == "generalised" else len(ids))
    assert found.report.settings["class_split"] == "easy_hard"


@pytest.mark.parametrize(
    ("trained", "says"),
    [("easy", None), ("base", "not the base classes here"), ("all", "no class here is new")],
)
def test_an_adapter_that_was_trained_on_other_classes_is_told(bank, tmp_path, trained, says):
    meta = {"data": {"spec": "synthetic", "version": "1"}, "train": {"classes": trained}}
    params = get_adapter("meta_adapter").init(jax.random.key(7), DIM)
    save_adapter(tmp_path, "meta_adapter", params, meta)
    config = dataclasses.replace(CONFIG, methods=("meta_adapter",))
    warning = evaluate_bank(config, bank, tmp_path).report.warning
    assert bool(warning) == (says is not None)
    assert says is None or says in warning[0]


def test_training_on_the_easy_classes_holds_out_the_last_of_them():
    easy = np.array([1, 3, 4, 6, 8], np.int32)
    train, val = choose_classes(10, "easy", easy)
    assert train.tolist() == [1, 3, 4, 6]
    assert val.tolist() == [8]


def test_what_the_published_code_tests_are_halves():
    config = dataclasses.replace(CONFIG, as_published=("meta_adapter",))
    with pytest.raises(UserError, match="class-split"):
        check_eval_config(config)
