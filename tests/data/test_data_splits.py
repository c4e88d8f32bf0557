import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsclip_jax.data.splits import (
    EMOJI_FAMILY_SPLITS,
    SPLITS,
    base_novel,
    meta_val,
    split_by_hash,
    split_named,
    split_sizes,
)

# A busy machine makes single examples slow.
patient = settings(deadline=None)

names = st.text(alphabet="abcdefg0123456789_- é", min_size=1, max_size=12)


@patient
@given(st.integers(0, 2000))
def test_base_and_novel_are_a_partition_into_halves(n_classes):
    base, novel = base_novel(n_classes)
    assert np.array_equal(np.concatenate([base, novel]), np.arange(n_classes))
    assert len(base) - len(novel) in (0, 1)


@patient
@given(st.lists(st.integers(0, 10**6), unique=True, max_size=400), st.floats(0.01, 0.9))
def test_meta_val_is_a_partition_that_keeps_the_order(ids, fraction):
    ids = np.array(ids, np.int32)
    train, val = meta_val(ids, fraction)
    assert np.array_equal(np.concatenate([train, val]), ids)
    if len(ids) >= 3:
        assert len(val) >= 1
        assert len(train) >= 1
        assert len(val) == max(1, int(len(ids) * fraction))
    else:
        assert len(val) == 0


def test_meta_val_holds_out_a_fifth():
    train, val = meta_val(np.arange(314, dtype=np.int32))
    assert (len(train), len(val)) == (252, 62)


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_meta_val_refuses_a_fraction_that_is_none(fraction):
    with pytest.raises(ValueError, match="fraction"):
        meta_val(np.arange(5), fraction)


@patient
@given(st.integers(1, 5000))
def test_split_sizes_are_half_a_fifth_and_the_rest(n):
    train, val, test = split_sizes(n)
    assert train + val + test == n
    assert min(train, val, test) >= (1 if n >= 3 else 0)
    assert abs(train - 0.5 * n) <= 0.5
    assert abs(val - 0.2 * n) <= (0.5 if n >= 3 else 1)


@patient
@given(st.lists(st.tuples(names, st.integers(0, 5)), unique_by=lambda item: item[0], min_size=1))
def test_split_by_hash_has_the_sizes_in_every_class(items):
    keys = [key for key, _ in items]
    labels = np.array([label for _, label in items], np.int32)
    splits = split_by_hash(keys, labels)
    for label in set(labels.tolist()):
        counts = np.bincount(splits[labels == label], minlength=len(SPLITS))
        assert tuple(counts) == split_sizes(int((labels == label).sum()))


@patient
@given(
    st.lists(names, unique=True, min_size=1, max_size=30),
    st.lists(names, unique=True, max_size=30),
    st.randoms(use_true_random=False),
)
def test_split_by_hash_sees_neither_order_nor_other_classes(own, others, random):
    alone = dict(zip([f"own/{k}" for k in own], _split([f"own/{k}" for k in own], 0), strict=True))
    keys = [f"own/{k}" for k in own] + [f"other/{k}" for k in others]
    random.shuffle(keys)
    labels = np.array([3 if key.startswith("own/") else 1 for key in keys], np.int32)
    together = dict(zip(keys, split_by_hash(keys, labels), strict=True))
    assert all(together[key] == split for key, split in alone.items())


def _split(keys, label):
    return split_by_hash(keys, np.full(len(keys), label, np.int32))


def test_split_by_hash_stays_as_it_is():
    # Fixed by the hashes of the names; a change here moves images between published splits.
    splits = _split([f"cat/{i}.jpg" for i in range(10)], 0)
    assert splits.tolist() == [0, 0, 1, 0, 1, 0, 2, 2, 0, 2]


def test_every_emoji_family_has_a_split():
    assert set(EMOJI_FAMILY_SPLITS.values()) == set(SPLITS)


def named(*counts):
    """Names, keys and labels of two classes with so many images in each split of a name."""
    names, keys, labels = [], [], []
    for split, count in counts:
        for label in (0, 1):
            for index in range(count):
                names.append(split)
                keys.append(f"{split}/{label}/{index}")
                labels.append(label)
    return names, keys, np.array(labels, np.int32)


def sizes(splits):
    return [int((splits == split).sum()) for split in (-1, 0, 1, 2)]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([("train", 10), ("validation", 3), ("test", 4)], [0, 20, 6, 8]),
        ([("train", 10), ("test", 4)], [0, 16, 4, 8]),
        ([("train", 10), ("val", 4)], [0, 16, 4, 8]),
        ([("train", 10)], [0, 10, 4, 6]),
        ([("test", 4)], [0, 0, 0, 8]),
        ([("validation", 4)], [0, 0, 0, 8]),
        ([("validation", 3), ("test", 4)], [0, 0, 0, 14]),
        ([("train", 10), ("test", 4), ("extra", 5)], [10, 16, 4, 8]),
        ([("train", 10), ("extra", 5)], [10, 10, 4, 6]),
        ([("Train", 4), ("Dev", 1), ("TEST", 1)], [0, 8, 2, 2]),
    ],
)
def test_named_splits(counts, expected):
    assert sizes(split_named(*named(*counts))) == expected


def test_train_stays_whole_where_no_val_is_drawn():
    assert sizes(split_named(*named(("train", 10), ("test", 4)), drawn_val=False)) == [0, 20, 0, 8]


def test_drawn_val_depends_on_the_names_of_a_class_only():
    names, keys, labels = named(("train", 25), ("test", 5))
    splits = split_named(names, keys, labels)
    for label in (0, 1):  # a fifth of every class
        assert ((splits == 1) & (labels == label)).sum() == 5
    assert set(splits[[name == "test" for name in names]]) == {2}
    order = np.random.default_rng(0).permutation(len(keys))
    shuffled = split_named([names[i] for i in order], [keys[i] for i in order], labels[order])
    np.testing.assert_array_equal(shuffled, splits[order])
    alone = labels == 1
    kept = np.flatnonzero(alone)
    part = split_named([names[i] for i in kept], [keys[i] for i in kept], labels[alone])
    np.testing.assert_array_equal(part, splits[alone])
