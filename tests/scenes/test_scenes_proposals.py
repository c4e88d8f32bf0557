"""Selective search: merging by the paper's sums, and boxes of what stands out."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fsclip_jax.data.boxes import overlaps
from fsclip_jax.interim import Interim
from fsclip_jax.scenes import proposals
from fsclip_jax.scenes.hierarchy import boxes_of, group, histograms, neighbours
from fsclip_jax.scenes.proposals import found_by, propose

SUPPORT = str(Path(__file__).parents[1] / "support")


def patches(seed, cells=4, side=8):
    """A picture of squares, each its own region, in random colours with some noise."""
    rng = np.random.default_rng(seed)
    labels = np.kron(np.arange(cells * cells).reshape(cells, cells), np.ones((side, side), int))
    image = rng.random((cells * cells, 3))[labels] + 0.05 * rng.random((*labels.shape, 3))
    return image, labels


def by_masks(image, labels):
    """The same grouping from masks alone: every likeness is computed anew at every step."""
    from fsclip_jax.scenes.hierarchy import COLOUR_BINS, TEXTURE_BINS, textures

    looks = [
        histograms(image, labels, COLOUR_BINS),
        histograms(textures(image), labels, TEXTURE_BINS),
    ]
    regions = {
        n: (labels == n, np.concatenate([look[n] for look in looks]))
        for n in range(labels.max() + 1)
    }
    boxes = [tuple(box) for box in boxes_of(labels).tolist()]
    total = labels.size

    def touch(a, b):
        near = np.zeros_like(a)
        near[1:] |= a[:-1]
        near[:-1] |= a[1:]
        near[:, 1:] |= a[:, :-1]
        near[:, :-1] |= a[:, 1:]
        return bool((near & b).any())

    def box(mask):
        ys, xs = np.nonzero(mask)
        return (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)

    def likeness(one, other):
        (a, ha), (b, hb) = one, other
        left, top, right, bottom = box(a | b)
        size = 1 - (a.sum() + b.sum()) / total
        fill = 1 - ((right - left) * (bottom - top) - a.sum() - b.sum()) / total
        return np.minimum(ha, hb).sum() + size + fill

    number = labels.max() + 1
    while len(regions) > 1:
        pairs = [
            (likeness(regions[i], regions[j]), i, j)
            for i in regions
            for j in regions
            if i < j and touch(regions[i][0], regions[j][0])
        ]
        _, i, j = max(pairs)
        (a, ha), (b, hb) = regions.pop(i), regions.pop(j)
        regions[number] = (a | b, (a.sum() * ha + b.sum() * hb) / (a.sum() + b.sum()))
        boxes.append(box(a | b))
        number += 1
    return np.array(boxes)


@pytest.mark.parametrize("seed", range(4))
def test_grouping_equals_the_plain_form(seed):
    image, labels = patches(seed, cells=3)
    np.testing.assert_array_equal(group(image, labels), by_masks(image, labels))


def test_every_grouping_ends_with_the_whole_picture():
    image, labels = patches(0)
    boxes = group(image, labels)
    assert len(boxes) == 2 * 16 - 1
    assert boxes[-1].tolist() == [0, 0, 32, 32]


def test_one_region_is_one_box():
    labels = np.zeros((5, 7), int)
    assert group(np.zeros((5, 7, 3)), labels).tolist() == [[0, 0, 7, 5]]
    assert neighbours(labels).shape == (0, 2)


def test_things_on_a_plain_ground_are_found():
    rng = np.random.default_rng(0)
    page = np.full((128, 128, 3), 210, np.uint8) + rng.integers(0, 6, (128, 128, 1), np.uint8)
    page[20:60, 10:70] = (180, 40, 40)
    page[80:120, 70:110] = (40, 60, 190)
    boxes, scores = propose(page)
    truth = np.array([[10.0, 20, 60, 40], [70, 80, 40, 40]])
    assert (overlaps(truth, boxes).max(1) > 0.85).all()
    assert (np.diff(scores) < 0).all()
    again, _ = propose(page)
    np.testing.assert_array_equal(boxes, again)


@given(
    st.lists(st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(1, 9)] * 2), min_size=2, max_size=2)
)
def test_overlap_is_that_of_pixels(boxes):
    masks = np.zeros((2, 20, 20), bool)
    for mask, (x, y, width, height) in zip(masks, boxes, strict=True):
        mask[y : y + height, x : x + width] = True
    expected = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    array = np.array(boxes, float)
    assert overlaps(array[:1], array[1:])[0, 0] == pytest.approx(expected)


def test_recall_counts_objects_of_their_own_picture():
    objects = [{"image_id": 1, "bbox": [0, 0, 4, 4]}, {"image_id": 2, "bbox": [0, 0, 4, 4]}]
    found = found_by(objects, [{"image_id": 1, "bbox": [0, 0, 4, 3]}])
    assert found.tolist() == [True, False]


def test_a_large_picture_is_searched_small_and_its_boxes_are_its_own(tmp_path, monkeypatch):
    page = Image.new("RGB", (400, 300), (210, 210, 205))
    page.paste((180, 40, 40), (40, 60, 200, 180))
    page.save(tmp_path / "page.png")
    monkeypatch.setattr(proposals, "MOST_PIXELS", 400 * 300 // 4)
    shapes = []
    propose = proposals.propose

    def seen(pixels, most):
        shapes.append(pixels.shape)
        return propose(pixels, most)

    monkeypatch.setattr(proposals, "propose", seen)
    interim = Interim(tmp_path / ".interim", {})
    found = proposals.propose_files([(1, tmp_path / "page.png")], interim)
    assert shapes == [(150, 200, 3)]
    truth = np.array([[40.0, 60, 160, 120]])
    boxes = np.array([one["bbox"] for one in found])
    assert overlaps(truth, boxes).max() > 0.9
    assert (boxes[:, :2] + boxes[:, 2:]).max(0).tolist() == [400, 300]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is counted in other units")
def test_extreme_pictures_are_searched_in_bounded_memory(tmp_path):
    """In processes of their own; 900 bytes a pixel would be 70 GB."""
    for size in ((1, 65_500), (8_000, 8_000)):
        Image.new("L", size, 200).save(tmp_path / "p.png")
        program = (
            f"import sys; sys.path.append({SUPPORT!r}); from pathlib import Path; "
            "from memory import peak_kib; from fsclip_jax.scenes.proposals import propose_for; "
            f"propose_for([Path({str(tmp_path / 'p.png')!r})], Path({str(tmp_path / 'o')!r})); "
            "print(peak_kib())"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        assert int(done.stdout.split()[-1]) < 1.5e6, size  # KiB; an import of JAX is 0.2e6
