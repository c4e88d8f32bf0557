"""What is put on the device is what was asked for, sorted by class."""

import os
import tracemalloc

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_banks import description, random_rows

from fsclip_jax.data.splits import SPLITS
from fsclip_jax.errors import UserError
from fsclip_jax.features.bank import StoredBank, largest_class
from fsclip_jax.features.layout import Rows
from fsclip_jax.features.writing import write_bank


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_selection_is_sorted_relabelled_and_complete(tmp_path_factory, data):
    classes = data.draw(st.integers(1, 6))
    n = data.draw(st.integers(1, 20))
    rows = random_rows(seed=data.draw(st.integers(0, 99)), n=n, classes=classes, views=2)
    place = tmp_path_factory.mktemp("select") / "bank"
    about = description(classes=classes)
    stored = write_bank(place, rows, about, shard=4, dtype="float32")
    splits = data.draw(st.sets(st.sampled_from(SPLITS), min_size=1))
    asked = np.array(data.draw(st.permutations(range(classes))))
    asked = asked[: data.draw(st.integers(1, classes))]

    wanted = [
        row
        for class_id in asked
        for row in range(n)
        if rows.labels[row] == class_id and SPLITS[rows.splits[row]] in splits
    ]
    if not wanted:
        with pytest.raises(UserError, match="no image"):
            stored.select(sorted(splits), asked)
        return
    bank = stored.select(sorted(splits), asked)
    np.testing.assert_allclose(bank.features, rows.features[:, wanted], atol=1e-6)
    assert asked[np.asarray(bank.labels)].tolist() == rows.labels[wanted].tolist()
    assert (np.diff(bank.labels) >= 0).all()
    for label, (start, size) in enumerate(zip(bank.starts, bank.sizes, strict=True)):
        assert np.flatnonzero(np.asarray(bank.labels) == label).tolist() == list(
            range(int(start), int(start + size))
        )
    np.testing.assert_allclose(bank.text, about.text_features[asked], atol=1e-6)
    assert largest_class(bank) == max(np.bincount(np.asarray(bank.labels)))


def test_a_class_without_images_keeps_its_place(make_bank):
    rows = Rows(
        np.ones((1, 3, 6), np.float32),
        np.array([2, 0, 2], np.int32),
        np.zeros(3, np.int8),
        ["a", "b", "c"],
        np.full(3, -1, np.int32),
    )
    bank = make_bank(rows=rows).select(["train"], np.array([2, 1, 0]))
    assert bank.sizes.tolist() == [2, 0, 1]
    assert bank.starts.tolist() == [0, 2, 2]
    assert bank.labels.tolist() == [0, 0, 2]
    assert bank.text.shape == (3, 6)


def test_dtypes_and_families_on_the_device(make_bank):
    plain = make_bank("plain", dtype="float16").select(SPLITS)
    assert plain.features.dtype == jnp.float32
    assert plain.logit_scale.dtype == jnp.float32
    assert set(plain.domains.tolist()) == {-1}
    np.testing.assert_allclose(np.linalg.norm(plain.features, axis=-1), 1, atol=1e-6)
    drawn = make_bank("drawn", families=3)
    order = np.argsort(drawn.labels, kind="stable")
    assert drawn.select(SPLITS).domains.tolist() == drawn.domains[order].tolist()


@pytest.mark.parametrize(
    ("splits", "classes", "line"),
    [
        (["tets"], None, "unknown split 'tets'; .*did you mean test"),
        (["train"], [0, 4], "0 to 3; asked for 4"),
        (["train"], [-1], "0 to 3; asked for -1"),
        (["train"], [1, 1], "asked for twice"),
        ([], None, "no image of the split"),
    ],
)
def test_what_cannot_be_selected_is_told_in_one_line(make_bank, splits, classes, line):
    ids = None if classes is None else np.array(classes)
    with pytest.raises(UserError, match=line) as caught:
        make_bank().select(splits, ids)
    assert "\n" not in str(caught.value)


def test_only_the_rows_asked_for_are_read(make_bank):
    stored = make_bank(n=13, shard=5)
    picked = np.array([0, 4, 5, 12])
    np.testing.assert_array_equal(stored.read(picked), stored.features[:, picked])
    assert isinstance(stored, StoredBank)


def test_few_rows_of_a_shard_are_read_alone(tmp_path):
    rows = random_rows(n=12_000, dim=64)
    stored = write_bank(tmp_path / "bank", rows, description(dim=64), dtype="float32")
    some = np.array([0, 5, 11_999])
    tracemalloc.start()
    found = stored.read(some)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, stored.read(np.arange(12_000))[:, some])
    assert peak < rows.features.nbytes / 10


@pytest.mark.parametrize("few", [1, 100])
@pytest.mark.parametrize("left", [None, 4, 200, 20_000])
def test_a_shard_that_goes_while_the_bank_is_open_is_told_in_a_line(tmp_path, few, left):
    about = description(dim=64)
    stored = write_bank(tmp_path / "bank", random_rows(n=100, dim=64), about, dtype="float32")
    ((path, _),) = stored.shards
    path.unlink() if left is None else os.truncate(path, left)
    with pytest.raises(UserError, match="make the bank anew") as told:
        stored.read(np.arange(few))
    assert path.name in str(told.value)
    assert "\n" not in str(told.value)


def test_prompts_follow_their_class_and_are_none_where_not_stored(tmp_path, make_bank):
    assert make_bank().prompt_features is None
    assert make_bank("other").select(SPLITS).prompts is None
    prompts = np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    prompts[2, 1] = 0
    about = description(prompt_features=prompts)
    stored = write_bank(tmp_path / "prompts", random_rows(), about)
    bank = stored.select(SPLITS, np.array([3, 1]))
    assert bank.prompts.shape == (2, 3, 6)
    present = np.linalg.norm(bank.prompts, axis=-1)
    np.testing.assert_allclose(present, [[1, 1, 1], [1, 1, 0]], atol=1e-6)
    cosine = np.sum(bank.prompts[0] * prompts[:, 3], -1) / np.linalg.norm(prompts[:, 3], axis=-1)
    np.testing.assert_allclose(cosine, 1, atol=1e-6)


def test_a_prompt_that_is_not_finite_is_told_when_it_is_read(tmp_path):
    about = description(prompt_features=np.full((1, 4, 6), np.inf, np.float32))
    with pytest.raises(UserError, match="prompt that is not finite"):
        write_bank(tmp_path / "bank", random_rows(), about).select(SPLITS)
