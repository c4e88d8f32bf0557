"""AP of small cases against a computation of its own, by the definition; COCO and LVIS."""

import numpy as np
import pytest

from fsclip_jax.data.boxes import overlaps
from fsclip_jax.data.coco_files import Box, Boxes, Category, Picture
from fsclip_jax.detection.average_precision import (
    IOUS,
    Detections,
    average_precision,
    empty_detections,
    group_numbers,
)
from fsclip_jax.detection.boxes import keep_best


def case(seed, federated=False, crowds=True):
    rng = np.random.default_rng(seed)
    categories = tuple(
        Category(10 * c, f"c{c}", "rcf"[c % 3] if federated else None, c % 2 == 0) for c in range(5)
    )
    numbers = [category.id for category in categories]
    boxes = []
    for image in range(6):
        for _ in range(rng.integers(0, 6)):
            bbox = (*rng.uniform(0, 40, 2), *rng.uniform(5, 25, 2))
            crowd = crowds and rng.random() < 0.15
            number = int(rng.choice(numbers[:4]))
            boxes.append(Box(image, number, tuple(map(float, bbox)), bbox[2] * bbox[3], crowd))
    pictures = []
    for image in range(6):
        there = {box.category for box in boxes if box.image == image}
        rest = [number for number in numbers if number not in there]
        absent = frozenset(number for number in rest if rng.random() < 0.5)
        partly = frozenset(number for number in there if rng.random() < 0.4)
        absent, partly = (absent, partly) if federated else (frozenset(), frozenset())
        pictures.append(Picture(image, 70, 70, f"{image}.png", absent=absent, partly=partly))
    rows = []
    for box in boxes:  # near misses, and boxes out of the blue
        for _ in range(rng.integers(0, 3)):
            moved = np.asarray(box.bbox) + rng.normal(0, 2, 4)
            number = box.category if rng.random() < 0.8 else int(rng.choice(numbers))
            rows.append((box.image, number, np.maximum(moved, 1), rng.random()))
    for _ in range(15):
        bbox = np.array([*rng.uniform(0, 40, 2), *rng.uniform(5, 25, 2)])
        rows.append((int(rng.integers(6)), int(rng.choice(numbers)), bbox, rng.random()))
    found = Detections(*(np.array([row[i] for row in rows]) for i in range(4)))
    return Boxes("case", tuple(pictures), tuple(boxes), categories, federated), found


def plain_ap(data, found, number, threshold, most):
    """AP of a category at one overlap, by its definition; None without objects."""
    marks = []
    total = 0
    for picture in data.pictures:
        mine = [i for i in range(len(found.score)) if found.image[i] == picture.id]
        mine = sorted(mine, key=lambda i: -found.score[i])[:most]
        mine = [i for i in mine if found.category[i] == number]
        truth = [b for b in data.boxes if (b.image, b.category) == (picture.id, number)]
        total += sum(not box.crowd for box in truth)
        if data.federated and not truth and number not in picture.absent:
            continue
        taken = set()
        for i in mine:
            best, at = threshold, None
            for j, box in enumerate(truth):
                if not box.crowd and j not in taken and (v := iou(found.bbox[i], box)) >= best:
                    best, at = v, j
            if at is not None:
                taken.add(at)
                marks.append((found.score[i], True))
                continue
            on_crowd = any(b.crowd and iou(found.bbox[i], b) >= threshold for b in truth)
            if not on_crowd and number not in picture.partly:
                marks.append((found.score[i], False))
    if not total:
        return None
    marks.sort(key=lambda mark: -mark[0])
    right = np.cumsum([mark[1] for mark in marks])
    precision = right / np.arange(1, len(marks) + 1)
    recall = right / total
    at = [precision[recall >= r - 1e-12].max(initial=0) for r in np.linspace(0, 1, 101)]
    return 100 * float(np.mean(at))


def iou(d, box):
    x0, y0, w, h = box.bbox
    wide = max(0, min(d[0] + d[2], x0 + w) - max(d[0], x0))
    high = max(0, min(d[1] + d[3], y0 + h) - max(d[1], y0))
    common, own = wide * high, d[2] * d[3]
    return common / own if box.crowd else common / (own + w * h - common)


@pytest.mark.parametrize("federated", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_ap_equals_its_definition(seed, federated):
    data, found = case(seed, federated)
    told = average_precision(data, found)
    for category in data.categories:
        mine = [plain_ap(data, found, category.id, t, 300 if federated else 100) for t in IOUS]
        if mine[0] is None:
            assert np.isnan(told.per_category[category.id])
            continue
        assert told.per_category[category.id] == pytest.approx(np.mean(mine), abs=1e-9)
        assert told.at[0.75][category.id] == pytest.approx(mine[5], abs=1e-9)
    known = [v for v in told.per_category.values() if not np.isnan(v)]
    assert told.mean() == pytest.approx(np.mean(known))


def test_the_federation_of_lvis_changes_the_result():
    data, found = case(1, federated=True)
    as_coco = Boxes(data.source, data.pictures, data.boxes, data.categories, federated=False)
    assert average_precision(data, found).mean() > average_precision(as_coco, found).mean() + 1


def test_the_truth_itself_is_found_perfectly_and_nothing_not_at_all():
    data, _ = case(2, crowds=False)
    perfect = Detections(
        np.array([box.image for box in data.boxes]),
        np.array([box.category for box in data.boxes]),
        np.array([box.bbox for box in data.boxes]),
        np.ones(len(data.boxes)),
    )
    assert average_precision(data, perfect).mean() == pytest.approx(100)
    assert average_precision(data, empty_detections()).mean() == 0


@pytest.mark.parametrize(("federated", "most"), [(False, 100), (True, 300)])
def test_only_the_best_of_an_image_count_over_all_categories(federated, most):
    picture = Picture(0, 90, 90, "0.png", absent=frozenset({2}))
    data = Boxes(
        "",
        (picture,),
        (Box(0, 1, (0, 0, 9, 9), 81),),
        (Category(1, "a"), Category(2, "b")),
        federated,
    )

    def ap(before):
        image, category = np.zeros(before + 1, int), np.array([2] * before + [1])
        bbox = np.tile([0.0, 0, 9, 9], (before + 1, 1))
        return average_precision(
            data, Detections(image, category, bbox, np.linspace(1, 0.5, before + 1))
        ).per_category[1]

    assert ap(most - 1) == pytest.approx(100)
    assert ap(most) == 0


def test_groups_follow_the_file():
    data, _ = case(0, federated=True)
    assert group_numbers(data) == {
        "novel": [0, 20, 40],
        "base": [10, 30],
        "rare": [0, 30],
        "common": [10, 40],
        "frequent": [20],
    }


def test_suppression_equals_the_plain_loop():
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0, 30, (25, 2)), rng.uniform(5, 30, (25, 2))], 1)
    scores = rng.random((25, 3))
    over = overlaps(boxes, boxes) > 0.4
    kept = []
    for pair in sorted(np.ndindex(25, 3), key=lambda pair: -scores[pair]):
        if not any(c == pair[1] and over[r, pair[0]] for r, c in kept):
            kept.append(pair)
    told = keep_best(scores, over, 20)
    assert list(zip(told.region, told.label, strict=True)) == kept[:20]
    assert (np.diff(told.score) <= 0).all()
    assert len(keep_best(scores, over, 99, least=0.5).score) == sum(scores[p] > 0.5 for p in kept)


def test_empty_boxes_overlap_nothing():
    assert (overlaps(np.zeros((1, 4)), np.array([[0.0, 0, 1, 1], [0, 0, 0, 0]])) == 0).all()
