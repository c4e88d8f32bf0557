"""The support: which boxes are drawn, and that each one's feature lands in its place."""

import numpy as np
import pytest

from fsclip_jax.data.boxes import overlaps
from fsclip_jax.data.coco_files import Box, Boxes, Category, Picture
from fsclip_jax.detection.support import empty_boxes, make_tasks, plan_support
from fsclip_jax.errors import UserError

CATEGORIES = tuple(Category(3 * c + 1, f"c{c}") for c in range(4))


@pytest.fixture
def data(rng):
    pictures = tuple(Picture(10 + i, 100, 80, f"{i}.png") for i in range(8))
    boxes = []
    for i in range(40):
        bbox = tuple(map(float, (*rng.uniform(0, 60, 2), *rng.uniform(8, 20, 2))))
        boxes.append(Box(10 + i % 8, CATEGORIES[i % 4].id, bbox, 1.0, i == 4))
    boxes.append(Box(10, CATEGORIES[3].id, (1, 1, 0, 5), 0.0))
    return Boxes("support.json", pictures, tuple(boxes), CATEGORIES, federated=False)


def drawn(data, plan):
    """The annotated boxes of each draw and class."""
    laid = np.concatenate([need.boxes[: need.objects] for need in plan.needed])
    place = {tuple(box.bbox): i for i, box in enumerate(data.boxes)}
    return [[[place[tuple(laid[r])] for r in row if r >= 0] for row in draw] for draw in plan.rows]


def test_every_class_gets_boxes_of_its_own_without_repeat(data):
    for draw in drawn(data, plan_support(data, CATEGORIES, 4, 3)):
        for category, mine in zip(CATEGORIES, draw, strict=True):
            assert len(set(mine)) == 4
            assert all(data.boxes[i].category == category.id for i in mine)
            assert not any(data.boxes[i].crowd or min(data.boxes[i].bbox[2:]) < 1 for i in mine)


def test_draws_differ_and_do_not_depend_on_how_many_there_are(data):
    many, few = (drawn(data, plan_support(data, CATEGORIES, 4, n)) for n in (5, 2))
    assert many[:2] == few
    assert many[0] != many[1]
    assert [[row[:2] for row in draw] for draw in few] == drawn(
        data, plan_support(data, CATEGORIES, 2, 2)
    )


def test_a_class_with_few_boxes_leaves_shots_empty(data):
    plan = plan_support(data, CATEGORIES, 10, 1)
    assert ((plan.rows >= 0).sum(-1) == [9, 10, 10, 10]).all()  # the crowd and the empty one apart
    with pytest.raises(UserError, match="at most 10 boxes of a category; give --shots 10"):
        plan_support(data, CATEGORIES, 11, 1)


def test_classes_are_found_by_their_names(data):
    swapped = (Category(5, "c1"), Category(6, "c0"))
    draw = drawn(data, plan_support(data, swapped, 3, 1))[0]
    assert {data.boxes[i].category for i in draw[0]} == {CATEGORIES[1].id}
    with pytest.raises(UserError, match=r"no box of 1 of 2 categories \(cat\)"):
        plan_support(data, (Category(5, "c1"), Category(6, "cat")), 3, 1)
    with pytest.raises(UserError, match="0 shots"):
        plan_support(data, CATEGORIES, 0, 1)


def test_the_feature_of_every_box_lands_in_its_place(data):
    plan = plan_support(data, CATEGORIES, 10, 2)
    features = [
        need.boxes / np.linalg.norm(need.boxes, axis=-1, keepdims=True) for need in plan.needed
    ]
    text = np.eye(4, dtype=np.float32)
    task, background = make_tasks(plan, features, text, 30.0)
    assert task.support.shape == (2, 4, 10, 4)
    for draw, mine in enumerate(drawn(data, plan)):
        for row, some in enumerate(mine):
            wanted = np.array([data.boxes[i].bbox for i in some])
            wanted /= np.linalg.norm(wanted, axis=-1, keepdims=True)
            assert np.allclose(task.support[draw, row, : len(some)], wanted)
            assert (np.asarray(task.support_mask[draw, row]) == (np.arange(10) < len(some))).all()
            assert (np.asarray(task.support[draw, row, len(some) :]) == 0).all()
    assert np.allclose(np.linalg.norm(background, axis=-1), 1)


def test_boxes_without_an_object_show_none(data, rng):
    objects = np.array([box.bbox for box in data.boxes if box.image == 12])
    found = empty_boxes(rng, data.pictures[2], objects)
    assert 0 < len(found) <= 8
    assert overlaps(found, objects).max() < 0.3
    assert (found[:, :2] >= 0).all()
    assert (found[:, :2] + found[:, 2:] <= [100, 80]).all()
    assert len(empty_boxes(rng, data.pictures[2], np.array([[0.0, 0, 100, 80]]))) <= 8
