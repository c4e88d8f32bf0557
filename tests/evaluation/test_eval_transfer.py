"""What a source gives to targets: cross_dataset and domain_shift."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from recomputed import agree, check_report
from synthetic_bank import CLASSES, DIM, synthetic_bank

from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.adapters.checkpoint import save_adapter
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig, check_eval_config
from fsclip_jax.evaluation.evaluate import evaluate_bank
from fsclip_jax.evaluation.targets import match_classes
from fsclip_jax.report.rows import report_to_json

METHODS = ("zero_shot", "text_prototype", "tip_adapter")


def renamed(bank, names=None, keys=None):
    return dataclasses.replace(
        bank,
        class_names=bank.class_names if names is None else tuple(names),
        keys=bank.keys if keys is None else tuple(keys),
    )


@pytest.fixture(scope="module")
def banks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("banks")
    return [synthetic_bank(folder / f"{i}", spec=f"set {i}", seed=i) for i in range(3)]


@pytest.fixture(scope="module")
def artists(tmp_path_factory):
    return synthetic_bank(tmp_path_factory.mktemp("banks") / "artists", families=3)


def evaluated(source, targets, tmp_path, **fields):
    specs = tuple(f"bank:there/set{i}" for i, _ in enumerate(targets, 1))
    fields = {"shots": (3,), "methods": METHODS} | fields
    config = EvalConfig(data="bank:there/set0", targets=specs, **fields)
    check_eval_config(config)
    found = evaluate_bank(config, source, tmp_path, targets=targets)
    return json.loads(report_to_json(found.report)), found.predictions


def check(tree, kept, names):
    """Every row from its answers, and the average from the rows."""
    rows = {(row["split"], row["method"], row["shots"]): row for row in tree["rows"]}
    averages = [place for place in rows if place[0] == "average"]
    assert len(averages) == len(METHODS)
    for _, method, shots in averages:
        each = [rows[name, method, shots]["metrics"]["accuracy"]["per_seed"] for name in names]
        draws = max(map(len, each))
        mean = np.mean([np.broadcast_to(values, draws) for values in each], axis=0)
        agree(rows["average", method, shots]["metrics"]["accuracy"], mean)
    others = [row for row in tree["rows"] if row["split"] != "average"]
    assert check_report(tree | {"rows": others}, kept) == len(others)


def chosen(tree):
    return {(r["split"], r["method"], r["shots"]): r["selection"] for r in tree["rows"]}


def numbers(tree, split):
    return [row["metrics"]["accuracy"] for row in tree["rows"] if row["split"] == split]


def relabelled(bank, split):
    labels = bank.labels.copy()
    rows = np.flatnonzero(bank.splits == split)
    labels[rows] = np.random.default_rng(0).permutation(labels[rows])
    return dataclasses.replace(bank, labels=labels)


def test_cross_dataset_follows_from_its_answers(banks, tmp_path):
    tree, kept = evaluated(banks[0], banks[1:], tmp_path, protocol="cross_dataset")
    check(tree, kept, ["set1", "set2"])
    assert list(dict.fromkeys(row["split"] for row in tree["rows"])) == [
        "set0", "set1", "set2", "average",
    ]  # fmt: skip
    assert kept.data == ("bank:there/set0", "bank:there/set1", "bank:there/set2")
    assert [target["source"] for target in tree["data"]["targets"]] == ["set 1", "set 2"]
    for place, bank in enumerate(banks):
        group, space = kept.group(f"set{place}"), kept.space(f"set{place}")
        records = kept.records
        assert set(records.data[group.queries]) == set(records.data[space.support].ravel())
        assert set(records.data[group.queries]) == {place}
        rows = records.rows
        assert set(bank.splits[rows[group.queries]]) == {2}
        assert set(bank.splits[rows[space.support]].ravel()) == {0}
        np.testing.assert_array_equal(bank.labels[rows[group.queries]], group.labels)


def test_the_setting_is_the_source_s_and_no_label_of_a_target_has_a_part_in_it(banks, tmp_path):
    fields = {"protocol": "cross_dataset"}
    tree, _ = evaluated(banks[0], banks[1:], tmp_path, **fields)
    found = chosen(tree)
    for name in ("set1", "set2"):
        for method in METHODS:
            assert found[name, method, 3] == found["set0", method, 3]
    assert found["set1", "tip_adapter", 3]["rule"] == "val images of the source set0"
    for split in (0, 1):
        other, _ = evaluated(banks[0], [relabelled(banks[1], split), banks[2]], tmp_path, **fields)
        assert chosen(other) == found
        # The labels of val are not read at all; those of train are, as shots.
        assert (numbers(other, "set1") == numbers(tree, "set1")) == (split == 1)
    other, _ = evaluated(relabelled(banks[0], 1), banks[1:], tmp_path, **fields)
    assert chosen(other) != found


def test_without_val_the_shots_of_the_source_decide(banks, tmp_path):
    fields = {"protocol": "cross_dataset", "select": "shots"}
    tree, _ = evaluated(banks[0], banks[1:], tmp_path, **fields)
    found = chosen(tree)
    assert found["set2", "tip_adapter", 3]["split"] == "train"
    assert found["set2", "tip_adapter", 3] == found["set0", "tip_adapter", 3]
    other, _ = evaluated(banks[0], [relabelled(b, 0) for b in banks[1:]], tmp_path, **fields)
    assert chosen(other) == found


def test_domain_shift_asks_target_images_with_shots_of_the_source(banks, tmp_path):
    # The target has five of the classes, in another order, and one that the source lacks.
    order = [5, 2, 6, 0, 3]
    names = [f"Thing_{order[i]}" if i < 5 else f"other {i}" for i in range(CLASSES)]
    target = renamed(banks[0], names=names)
    tree, kept = evaluated(banks[0], [target, banks[0]], tmp_path, protocol="domain_shift")
    check(tree, kept, ["set1", "set2"])
    assert "set1: 2 of its classes are not among those of bank:there/set0" in tree["warning"][0]
    group, space = kept.group("set1"), kept.space("set1")
    assert space.classes.tolist() == sorted(order)
    assert (space.data, set(kept.records.data[group.queries])) == (0, {1})
    rows = kept.records.rows[group.queries]
    told = [names[label].casefold().replace("_", " ") for label in target.labels[rows]]
    assert told == [space.class_names[label] for label in group.labels]
    # A target that is the source itself, under another name, has the source's numbers.
    assert numbers(tree, "set2") == numbers(tree, "set0")
    # A class has the same shots whatever the target has.
    whole = kept.space("set0")
    for place, label in enumerate(space.classes):
        np.testing.assert_array_equal(space.support[:, place], whole.support[:, label])


def test_the_held_out_families_are_the_targets(artists, tmp_path):
    config = EvalConfig(protocol="domain_shift", methods=METHODS, shots=(3,), data="bank:x")
    found = evaluate_bank(config, artists, tmp_path)
    tree, kept = json.loads(report_to_json(found.report)), found.predictions
    names = [group.name for group in kept.groups]
    assert len(names) == 2
    assert {row["split"] for row in tree["rows"]} == {*names, "average"}
    check(tree, kept, names)
    assert kept.data == ("bank:x",)
    asked = []
    for group in kept.groups:
        rows = kept.records.rows[group.queries]
        assert {artists.domain_names[d] for d in artists.domains[rows]} == {group.name}
        asked += rows.tolist()
    assert sorted(asked) == np.flatnonzero(artists.splits == 2).tolist()
    shots = kept.records.rows[kept.spaces[0].support]
    assert not set(artists.domains[shots].ravel()) & set(artists.domains[asked])


def test_classes_are_matched_by_wordnet_id_before_the_name(banks):
    def keys(bank, order):
        return [f"train/n{order[label]:08d}/{i}.jpg" for i, label in enumerate(bank.labels)]

    source = renamed(banks[0], keys=keys(banks[0], range(CLASSES)))
    target = renamed(banks[1], keys=keys(banks[1], [3, 99, 0, 1, 2, 4, 5]))
    assert match_classes(source, target) == {0: 3, 2: 0, 3: 1, 4: 2, 5: 4, 6: 5}
    # Where one of the two has none, the names decide; shared names match nothing.
    assert match_classes(source, banks[1]) == {label: label for label in range(CLASSES)}
    twice = renamed(banks[1], names=["crane", "crane", *banks[1].class_names[2:]])
    assert match_classes(twice, twice) == {label: label for label in range(2, CLASSES)}


@pytest.mark.parametrize("shots", [6, 7])
def test_a_target_with_too_few_images_is_named(banks, tmp_path, shots):
    small = synthetic_bank(tmp_path / "small", {"train": 6, "test": 2}, spec="small")
    fields = {"protocol": "cross_dataset", "methods": ("prototype",), "shots": (shots,)}
    big = synthetic_bank(tmp_path / "big", {"train": 9, "test": 2, "val": 1}, spec="big")
    if shots == 6:  # all images of the target: one draw there, three in the source
        tree, _ = evaluated(big, [small, banks[1]], tmp_path, **fields)
        assert [len(row["metrics"]["accuracy"]["per_seed"]) for row in tree["rows"]] == [3, 1, 1, 1]
        return
    with pytest.raises(UserError, match=r"target bank:there/set1"):
        evaluated(big, [small, banks[1]], tmp_path, **fields)


def test_an_adapter_that_was_trained_on_a_target_is_told(banks, tmp_path):
    meta = {"data": {"spec": "set 2", "version": "2"}, "train": {"classes": "all"}}
    params = get_adapter("meta_adapter").init(jax.random.key(7), DIM)
    save_adapter(tmp_path, "meta_adapter", params, meta)
    for bank in banks[1:]:
        bank.manifest["data"]["version"] = bank.manifest["data"]["spec"]
    fields = {"protocol": "cross_dataset", "methods": ("meta_adapter",), "shots": (1,)}
    tree, _ = evaluated(banks[0], banks[1:], tmp_path, **fields)
    (line,) = tree["warning"]
    assert line.startswith("set2: meta_adapter was meta-trained on all classes")


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"protocol": "cross_dataset"}, "give --targets"),
        ({"targets": ("emoji:food",)}, "targets go with"),
        ({"protocol": "cross_dataset", "targets": ("emoji",)}, "is the source"),
        ({"protocol": "cross_dataset", "targets": ("emoji:food",) * 2}, "given twice"),
        (
            {"protocol": "cross_dataset", "targets": ("emoji:food",), "classes": "base"},
            "leave --classes out",
        ),
        ({"protocol": "domain_shift", "as_published": ("tip_adapter_f",)}, "as-published"),
    ],
)
def test_what_does_not_go_together_is_told(fields, says):
    with pytest.raises(UserError, match=says):
        check_eval_config(EvalConfig(**fields))


def test_banks_that_do_not_fit_are_told(banks, tmp_path):
    other = synthetic_bank(tmp_path / "other", backbone={"id": "toy 2", "sha256": "b" * 64})
    with pytest.raises(UserError, match="another backbone"):
        evaluated(banks[0], [other], tmp_path, protocol="cross_dataset")
    strangers = renamed(banks[1], names=[f"other {i}" for i in range(CLASSES)])
    with pytest.raises(UserError, match="0 classes of bank:there/set1"):
        evaluated(banks[0], [strangers], tmp_path, protocol="domain_shift")
    with pytest.raises(UserError, match="no artist families"):
        evaluated(banks[0], [], tmp_path, protocol="domain_shift")
