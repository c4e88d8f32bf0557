"""Shots from shared lists, imbalanced shots, and more than sixteen."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from shot_pickles import datums
from synthetic_bank import CLASSES, synthetic_bank

from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.evaluate import evaluate_bank, write_evaluation, write_supports
from fsclip_jax.evaluation.predictions_file import read_predictions
from fsclip_jax.evaluation.uneven import uneven_counts
from fsclip_jax.report.markdown import report_to_markdown
from fsclip_jax.report.rows import read_report

QUICK = ("zero_shot", "text_prototype", "tip_adapter")
FIELDS = {"data": "bank:there", "methods": QUICK, "seeds": 2}


def run(stored, tmp_path, **fields):
    return evaluate_bank(EvalConfig(**FIELDS | fields), stored, tmp_path)


def numbers(report):
    return {
        (row.split, row.method, row.shots): row.metrics["accuracy"].per_seed for row in report.rows
    }


def write(folder, stored, rows, shots=1, seed=1, split="train", prefix=""):
    """Write a list of rows of a bank, and return its file."""
    place = folder / "split_fewshot"
    place.mkdir(exist_ok=True)
    lines = [
        {
            "impath": prefix + stored.keys[row],
            "label": int(stored.labels[row]),
            "domain": 0,
            "classname": stored.class_names[stored.labels[row]],
        }
        for row in rows
    ]
    file = place / f"shot_{shots}-seed_{seed}_{split}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def some_of(stored, split, each, first=0):
    """So many rows of every class of a split."""
    rows = [np.flatnonzero((stored.splits == split) & (stored.labels == c)) for c in range(CLASSES)]
    return np.concatenate([one[first : first + each] for one in rows])


def shots_of(found, space, shots, draw, place):
    """The rows of the bank that are the shots of a class."""
    records = space.shots(shots)[draw, place]
    return set(found.predictions.records.rows[records[records >= 0]].tolist())


@pytest.mark.parametrize("protocol", ["full_way", "cross_category"])
def test_written_draws_give_the_same_numbers_when_read(bank, tmp_path, protocol):
    shots = (1, 3, "imbalanced:2")
    first = EvalConfig(**FIELDS, shots=shots, protocol=protocol)
    write_supports(first, bank, tmp_path / "lists")
    files = sorted(file.name for file in (tmp_path / "lists/split_fewshot").iterdir())
    assert len(files) == 6
    drawn = run(bank, tmp_path, shots=shots, protocol=protocol)
    read = run(bank, tmp_path, shots=shots, protocol=protocol, draws=tmp_path / "lists")
    assert numbers(drawn.report) == numbers(read.report)
    assert sorted(read.report.settings["draws"]) == files
    spaces = zip(drawn.predictions.spaces, read.predictions.spaces, strict=True)
    for (ours, theirs), k in itertools.product(spaces, shots):
        for draw, place in itertools.product(range(2), range(len(ours.classes))):
            assert shots_of(drawn, ours, k, draw, place) == shots_of(read, theirs, k, draw, place)


def test_absolute_paths_and_pickles_are_found_in_the_bank(bank, tmp_path):
    rows = some_of(bank, 0, 2, first=1)
    lines, pickled = tmp_path / "lines", tmp_path / "pickled"
    for folder in (lines, pickled):
        folder.mkdir()
    write(lines, bank, rows, 2, prefix="/home/them/data/pets/images/")
    listed = [
        ("C:\\pets\\" + bank.keys[r], int(bank.labels[r]), bank.class_names[bank.labels[r]])
        for r in rows
    ]
    (pickled / "shot_2-seed_1.pkl").write_bytes(datums({"train": listed}))
    found = [run(bank, tmp_path, shots=(2,), seeds=1, draws=f) for f in (lines, pickled)]
    assert numbers(found[0].report) == numbers(found[1].report)
    space = found[0].predictions.spaces[0]
    assert set(found[0].predictions.records.rows[space.shots(2)].ravel()) == set(rows)


def test_settings_are_chosen_on_the_val_list_of_each_draw(bank, tmp_path):
    for seed in (1, 2):
        write(tmp_path, bank, some_of(bank, 0, 2), 2, seed)
        write(tmp_path, bank, some_of(bank, 1, seed, first=1), 2, seed, "val")
    report = run(bank, tmp_path, shots=(2,), draws=tmp_path).report
    row = next(row for row in report.rows if row.method == "tip_adapter")
    assert row.selection["split"] == "val"
    assert row.selection["rule"] == "val lists of all classes"
    whole = run(bank, tmp_path, shots=(2,), draws=tmp_path, select="shots").report
    assert numbers(whole)["test", "zero_shot", 2] == numbers(report)["test", "zero_shot", 2]


def wrong(stored, tmp_path, spoil, said, **fields):
    file = write(tmp_path, stored, some_of(stored, 0, 1))
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(line) + "\n" for line in spoil(lines)))
    with pytest.raises(UserError, match=said) as error:
        run(stored, tmp_path, shots=(1,), seeds=1, draws=tmp_path, **fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"impath": "other/picture.png"}, "is no picture of the data"),
        ({"classname": "nothing", "label": 99}, r"nothing \(99\) is no class"),
        ({"classname": "thing 3", "label": 3}, r"is of thing 0 \(0\) in the data"),
        ({"classname": "by another name", "label": 5}, r"is of thing 0 \(0\) in the data"),
    ],
)
def test_what_the_data_do_not_have_is_refused(bank, tmp_path, change, said):
    wrong(bank, tmp_path, lambda lines: [lines[0] | change, *lines[1:]], said)


def test_a_class_by_another_name_goes_by_its_number(bank, tmp_path):
    write(tmp_path, bank, some_of(bank, 0, 1))
    file = next((tmp_path / "split_fewshot").iterdir())
    file.write_text(file.read_text().replace("thing 0", "by another name"))
    run(bank, tmp_path, shots=(1,), seeds=1, draws=tmp_path)


@pytest.mark.parametrize("split", [1, 2])
def test_a_shot_that_is_a_val_or_test_image_is_refused(bank, tmp_path, split):
    rows = some_of(bank, 0, 1)
    rows[2] = some_of(bank, split, 1)[2]
    write(tmp_path, bank, rows)
    name = ("train", "val", "test")[split]
    with pytest.raises(UserError, match=f"1 of 7 pictures, such as .*, are {name} images"):
        run(bank, tmp_path, shots=(1,), seeds=1, draws=tmp_path)


def test_val_lists_share_nothing_with_shots_and_queries(bank, tmp_path):
    write(tmp_path, bank, some_of(bank, 0, 1))
    write(tmp_path, bank, some_of(bank, 2, 1), split="val")
    with pytest.raises(UserError, match="are test images"):
        run(bank, tmp_path, shots=(1,), seeds=1, draws=tmp_path)
    run(bank, tmp_path, shots=(1,), seeds=1, draws=tmp_path, select="none")
    write(tmp_path, bank, some_of(bank, 0, 1), split="val")
    with pytest.raises(UserError, match="is a shot of this draw"):
        run(bank, tmp_path, shots=(1,), seeds=1, draws=tmp_path)


def test_lists_of_too_many_of_too_few_and_of_one_picture_twice_are_refused(bank, tmp_path):
    wrong(bank, tmp_path, lambda lines: [*lines, lines[0]], "is listed twice")
    wrong(bank, tmp_path, lambda lines: lines[1:], "1 classes, such as thing 0, have no shot")
    write(tmp_path, bank, some_of(bank, 0, 2))
    with pytest.raises(UserError, match="a class has 2 shots where 1 belong"):
        run(bank, tmp_path, shots=(1,), seeds=1, draws=tmp_path)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"shots": ("imbalanced:0",)}, "at least 1 or imbalanced:MEAN"),
        ({"shots": ("four",)}, "at least 1 or imbalanced:MEAN"),
        ({"shots": ("imbalanced:9",)}, "give imbalanced:6 or less"),
        ({"shots": ("imbalanced:2",), "protocol": "episodic"}, "does not go with episodic"),
        ({"write_draws": Path("x"), "protocol": "domain_shift"}, "goes with full_way"),
    ],
)
def test_what_makes_no_sense_is_one_line(bank, tmp_path, fields, said):
    with pytest.raises(UserError, match=said):
        run(bank, tmp_path, **fields)


@pytest.mark.parametrize("seed", range(5))
def test_imbalanced_counts_have_their_mean_and_one_shot_at_least(seed):
    classes, sizes = np.arange(3, 40), np.full(37, 100)
    counts = uneven_counts(4, seed, classes, sizes)
    assert counts.sum() == 4 * 37
    assert counts.min() >= 1
    assert counts.max() >= 8
    np.testing.assert_array_equal(counts, uneven_counts(4, seed, classes, sizes))
    assert (counts != uneven_counts(4, seed + 1, classes, sizes)).any()
    few = np.where(np.arange(37) % 2, 2, 100)
    capped = uneven_counts(4, seed, classes, few)
    assert capped.sum() == 4 * 37
    assert (capped <= few).all()
    np.testing.assert_array_equal(uneven_counts(100, seed, classes, sizes), sizes)


def test_imbalanced_shots_are_those_of_every_method_and_are_read_back(bank, tmp_path):
    found = run(bank, tmp_path, shots=(2, "imbalanced:2", "imbalanced:4"))
    write_evaluation(found, tmp_path / "out")
    report, kept = read_report(tmp_path / "out"), read_predictions(tmp_path / "out")
    assert [row.shots for row in report.rows[:3]] == [2, "imbalanced:2", "imbalanced:4"]
    space = kept.spaces[0]
    for mean in (2, 4):
        held = (space.shots(f"imbalanced:{mean}") >= 0).sum(-1)
        assert (held.sum(-1) == mean * CLASSES).all()
        assert held.min() >= 1
        assert held.max() > held.min()
    assert (space.shots(2) >= 0).all()
    assert "imbalanced:4" in report_to_markdown(report)
    assert kept.find("tip_adapter", "imbalanced:2", "test").predicted.shape == (2, 35)


@pytest.mark.slow
def test_every_method_of_all_runs_on_imbalanced_shots(bank, tmp_path):
    even = run(bank, tmp_path, methods=("all",), shots=(1,), seeds=1, select="none").report
    report = run(
        bank, tmp_path, methods=("all",), shots=("imbalanced:3",), seeds=1, select="none"
    ).report
    assert {row.method for row in report.rows} == {row.method for row in even.rows}
    assert all(np.isfinite(row.metrics["accuracy"].mean) for row in report.rows)


@pytest.mark.slow
def test_more_than_sixteen_shots_are_drawn_judged_and_shown(tmp_path):
    stored = synthetic_bank(tmp_path / "bank", {"train": 64, "val": 2, "test": 3})
    methods = (*QUICK, "proker", "gda", "ss_text_plus", "lp_plus_plus")
    found = run(stored, tmp_path, shots=(16, 32, 64), methods=methods)
    write_evaluation(found, tmp_path / "out")
    report = read_report(tmp_path / "out")
    assert {row.shots for row in report.rows} == {16, 32, 64}
    support = found.predictions.spaces[0].shots(64)
    assert len(np.unique(support[0])) == 64 * CLASSES
    assert "64 shots" in report_to_markdown(report)


def test_a_class_with_fewer_pictures_than_shots_is_refused_with_what_there_is(tmp_path):
    stored = synthetic_bank(tmp_path / "bank", per_class=[40, 40, 20, 40, 40, 40, 40])
    with pytest.raises(UserError, match=r"1 of 7 classes .* 'thing 2', has 20: give 20 shots or"):
        run(stored, tmp_path, shots=(32,))
