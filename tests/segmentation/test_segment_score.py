"""Scores and the background rule, against plain loops over pixels."""

import numpy as np
import pytest

from fsclip_jax.errors import UserError
from fsclip_jax.segmentation.annotated import MaskedBox, draw_shots
from fsclip_jax.segmentation.background import best_threshold
from fsclip_jax.segmentation.parts import count_labels
from fsclip_jax.segmentation.score import class_ious, confusion


@pytest.mark.parametrize("seed", range(3))
def test_iou_equals_sets_of_pixels(seed):
    rng = np.random.default_rng(seed)
    labels = np.arange(60, dtype=np.int32).reshape(6, 10) // 3
    truth = rng.integers(0, 4, (6, 10)).astype(np.int32)
    predicted = rng.integers(0, 4, 20)
    ious = class_ious(confusion(predicted, count_labels(labels, truth, 5)))
    shown = predicted[labels]
    for label in range(4):
        both = ((shown == label) & (truth == label)).sum()
        either = ((shown == label) | (truth == label)).sum()
        assert ious[label] == pytest.approx(both / either)
    assert np.isnan(ious[4])


@pytest.mark.parametrize("seed", range(5))
def test_no_threshold_overlaps_better(seed):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(25)
    counts = rng.integers(0, 9, (25, 3))

    def overlap(threshold):
        things = scores >= threshold
        binary = np.stack([counts[:, 0], counts[:, 1:].sum(1)], axis=1)
        return np.mean(class_ious(confusion(things.astype(int), binary)))

    best = best_threshold(scores, counts)
    others = [overlap(t) for t in scores]
    assert overlap(best) == pytest.approx(max(others))


def test_shots_come_from_different_artists_first():
    objects = [
        MaskedBox(1, number, (0, 0, 1, 1), mask={}, family=family)
        for number, families in ((1, "aabbccdd"), (2, "aabbccdda"))
        for family in families
    ]
    for seed in range(6):
        four = draw_shots(objects, (1, 2), 4, seed)
        assert all({objects[i].family for i in row} == set("abcd") for row in four)
        assert all(
            objects[i].category == n for n, row in zip((1, 2), four, strict=True) for i in row
        )
        np.testing.assert_array_equal(draw_shots(objects, (1, 2), 2, seed), four[:, :2])
        nine = draw_shots(objects, (1, 2), 9, seed)
        assert [sorted(row.tolist()) for row in nine] == [[-1, *range(8)], [*range(8, 17)]]
    with pytest.raises(UserError, match="at most 9 objects of a category; give --shots 9"):
        draw_shots(objects, (1, 2), 10, 0)
