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
