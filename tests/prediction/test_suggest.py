"""Which labels would help most: the right choice where it is known, and the command's words."""

import numpy as np
import pytest

from fsclip_jax.prediction.suggest import margins, suggest


def blobs(sizes, dim=16, spread=0.05, seed=0):
    """Unit features in groups of such sizes, each around a direction of its own."""
    rng = np.random.default_rng(seed)
    features = np.concatenate(
        [
            np.eye(dim)[place] + spread * rng.normal(size=(size, dim))
            for place, size in enumerate(sizes)
        ]
    )
    return (features / np.linalg.norm(features, axis=-1, keepdims=True)).astype(np.float32)


def even(count, way=4):
    return np.full((count, way), 1 / way)


def test_every_group_is_named_once_before_any_is_named_twice():
    sizes = (9, 5, 7, 3)
    features = blobs(sizes)
    chosen = suggest(features, even(24), np.zeros(24), 4)
    group = np.repeat(np.arange(4), sizes)[chosen]
    assert group.tolist() == [0, 2, 1, 3]  # the largest first


def test_what_is_labelled_already_or_sure_helps_least():
    features = blobs((6, 6))
    shares = even(12)
    labelled = np.where(np.arange(12) < 6, 0.99, 0.0)
    assert suggest(features, shares, labelled, 1)[0] >= 6
    shares[6:] = [0.97, 0.01, 0.01, 0.01]
    assert suggest(features, shares, np.zeros(12), 1)[0] < 6


@pytest.mark.parametrize(("pictures", "count"), [(0, 3), (1, 3), (5, 5), (700, 4)])
def test_as_many_as_there_are_and_none_twice(pictures, count):
    features = blobs((pictures,)) if pictures else np.zeros((0, 16), np.float32)
    chosen = suggest(features, even(pictures), np.zeros(pictures), count).tolist()
    assert len(chosen) == len(set(chosen)) == min(pictures, count)


def test_a_picture_that_stands_many_times_is_named_once():
    features = np.concatenate(
        [np.repeat(blobs((1,)), 10, axis=0), np.eye(16, dtype=np.float32)[5:8]]
    )
    chosen = suggest(features, even(13), np.zeros(13), 4)
    assert sum(chosen < 10) == 1


def test_the_margin_is_between_the_best_two():
    shares = np.random.default_rng(0).dirichlet(np.ones(5), 20)
    ordered = np.sort(shares, -1)
    np.testing.assert_allclose(margins(shares), ordered[:, -1] - ordered[:, -2])
