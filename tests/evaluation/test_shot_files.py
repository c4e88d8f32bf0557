"""Lists of shots as papers share them: read, refused, never run."""

import json
import pickle

import pytest
from shot_pickles import datums

from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.shot_files import (
    Listed,
    file_name,
    find_shot_lists,
    read_lines,
    read_pickled_lists,
    write_lines,
)

CATS = [Listed("oxford_pets/images/a.jpg", 0, "cat"), Listed("oxford_pets/images/b.jpg", 1, "dog")]
AS_TUPLES = [("oxford_pets/images/a.jpg", 0, "cat"), ("oxford_pets/images/b.jpg", 1, "dog")]


def test_lines_are_read_with_the_fields_of_a_datum_or_as_lists(tmp_path):
    path = tmp_path / "list.jsonl"
    named = [
        json.dumps(dict(zip(("impath", "label", "classname"), x, strict=True))) for x in AS_TUPLES
    ]
    hidden = [line.replace('"impath', '"_impath').replace('"label', '"_label') for line in named]
    for lines in (named, hidden, [json.dumps(list(each)) for each in AS_TUPLES]):
        path.write_text("\n".join(lines) + "\n\n")
        assert list(read_lines(path)) == CATS


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("module", ["dassl.data.datasets.base_dataset", "datasets.utils"])
def test_coops_pickles_are_read(tmp_path, protocol, module):
    path = tmp_path / "shot_1-seed_1.pkl"
    path.write_bytes(datums({"train": AS_TUPLES, "val": AS_TUPLES[:1]}, protocol, module))
    assert read_pickled_lists(path) == {"train": tuple(CATS), "val": tuple(CATS[:1])}


class Runs:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (Runs(), "asks for .*print"),
        ({"train": [Runs()]}, "asks for .*print"),
        ({"train": [1]}, "no Datum"),
        ([1], "no dict with a list"),
        ({"train": []}, "lists no picture"),
    ],
)
def test_what_a_pickle_asks_for_beside_records_is_refused_and_not_run(tmp_path, capsys, held, said):
    path = tmp_path / "shot_1-seed_1.pkl"
    path.write_bytes(pickle.dumps(held))
    with pytest.raises(UserError, match=said):
        read_pickled_lists(path)
    assert not capsys.readouterr().out


def test_a_class_of_another_name_is_refused(tmp_path):
    path = tmp_path / "shot_1-seed_1.pkl"
    path.write_bytes(datums({"train": AS_TUPLES}, 2).replace(b"\nDatum\n", b"\nDates\n"))
    with pytest.raises(UserError, match=r"asks for dassl.*Dates"):
        read_pickled_lists(path)


@pytest.mark.parametrize("line", ["{", "1", '{"impath": "a"}', '["a", -1, "cat"]', "[[[[" * 1000])
def test_a_wrong_line_is_named(tmp_path, line):
    path = tmp_path / "list.jsonl"
    path.write_text(json.dumps(list(AS_TUPLES[0])) + "\n" + line)
    with pytest.raises(UserError, match="line 2: "):
        read_lines(path)


def test_files_are_found_by_shots_and_seed_and_written_ones_are_read(tmp_path):
    for seed in (1, 2, 3):
        write_lines(tmp_path, file_name(4, seed, "train"), CATS)
    write_lines(tmp_path, file_name(4, 2, "val"), CATS[:1])
    write_lines(tmp_path, file_name("imbalanced:4", 1, "train"), CATS[1:])
    place = tmp_path / "split_fewshot"
    (place / "shot_8-seed_1.pkl").write_bytes(datums({"train": AS_TUPLES}))
    for folder in (tmp_path, place):
        first, second = find_shot_lists(folder, "4", 2)
        assert (first.seed, first.train, first.val) == (1, tuple(CATS), None)
        assert (second.seed, second.val) == (2, tuple(CATS[:1]))
        assert [each["file"] for each in second.described()] == [
            "shot_4-seed_2_train.jsonl",
            "shot_4-seed_2_val.jsonl",
        ]
    assert find_shot_lists(place, "8", 1)[0].train == tuple(CATS)
    assert find_shot_lists(place, "imbalanced_4", 1)[0].train == tuple(CATS[1:])
    with pytest.raises(UserError, match=r"3 of 5 seeds have lists of 4 shots.*--seeds 3"):
        find_shot_lists(place, "4", 5)
    with pytest.raises(UserError, match=r"0 of 3 seeds .* of 2 shots .*4, 8, imbalanced_4"):
        find_shot_lists(place, "2", 3)
    with pytest.raises(UserError, match="no such folder"):
        find_shot_lists(tmp_path / "nowhere", "1", 1)
