"""Annotations and proposals: what is read, and how broken files are refused."""

import contextlib
import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsclip_jax.data.coco_files import read_boxes, read_proposals, write_results
from fsclip_jax.errors import UserError

GOOD = {
    "images": [
        {"id": 7, "file_name": "a/b.png", "width": 64, "height": 48},
        {"id": 3, "file_name": "c.png", "width": 32, "height": 32},
    ],
    "categories": [
        {"id": 9, "name": "cat", "novel": True},
        {"id": 2, "name": "dog", "novel": False},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 2, "bbox": [1, 2, 3.5, 4], "iscrowd": 1},
        {"id": 2, "image_id": 7, "category_id": 9, "bbox": [0, 0, 5, 5], "area": 20},
    ],
}


@pytest.fixture
def read(tmp_path):
    def make(values):
        path = tmp_path / "boxes.json"
        path.write_text(values if isinstance(values, str) else json.dumps(values))
        return read_boxes(path)

    return make


def test_a_file_of_coco_is_read(read):
    data = read(GOOD)
    assert [picture.id for picture in data.pictures] == [7, 3]
    assert [(category.id, category.novel) for category in data.categories] == [
        (2, False),
        (9, True),
    ]
    assert data.boxes[0].area == 14
    assert data.boxes[0].crowd
    assert data.boxes[1].area == 20
    assert not data.federated


def test_a_file_of_lvis_is_read(read):
    values = copy.deepcopy(GOOD)
    for image in values["images"]:
        image.update(neg_category_ids=[9], not_exhaustive_category_ids=[2])
        image["coco_url"] = f"http://images.example/val/{image.pop('file_name').split('/')[-1]}"
    for category in values["categories"]:
        category["frequency"] = "r"
    data = read(values)
    assert data.federated
    picture = data.pictures[0]
    assert (picture.file_name, picture.width, picture.height) == ("val/b.png", 64, 48)
    assert (picture.absent, picture.partly) == (frozenset({9}), frozenset({2}))
    assert {category.frequency for category in data.categories} == {"r"}


def broken(part, at, **changes):
    values = copy.deepcopy(GOOD)
    values[part][at].update(changes)
    return values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("", "no JSON"),
        ('{"x":' * 100_000, "no JSON"),
        ("[]", "no data set of boxes"),
        ({**GOOD, "images": {}}, "no data set of boxes"),
        ({**GOOD, "images": [], "annotations": []}, "no images"),
        ({**GOOD, "images": [1]}, r"Expected `object`, got `int` - at `\$.images\[0\]`"),
        ({**GOOD, "categories": []}, "no categories"),
        (broken("images", 0, file_name="../../etc/passwd"), "below the folder"),
        (broken("images", 0, file_name="/etc/passwd"), "below the folder"),
        (broken("images", 0, file_name=None), r"at `\$.images\[0\].file_name`"),
        (broken("images", 0, file_name="a\0b"), "below the folder"),
        (broken("images", 0, id=3), "two images have the id 3"),
        (broken("images", 0, width=0), r">= 1 - at `\$.images\[0\].width`"),
        (broken("images", 0, id=True), r"got `bool` - at `\$.images\[0\].id`"),
        (broken("images", 0, id=1.5), "whole number"),
        (broken("images", 0, neg_category_ids=[5]), "neg_category_ids"),
        (broken("categories", 0, name=""), r"at `\$.categories\[0\].name`"),
        (broken("categories", 0, name="dog"), "same name"),
        (
            broken("categories", 0, novel="yes"),
            r"Expected `bool.*`, got `str` - at `\$.categories\[0\].novel`",
        ),
        (broken("categories", 0, novel=None), "some categories have 'novel'"),
        (broken("categories", 0, frequency="x"), r"'x' - at `\$.categories\[0\].frequency`"),
        (broken("annotations", 0, bbox=[1, 2, 3]), r"length 4 - at `\$.annotations\[0\].bbox`"),
        (broken("annotations", 0, bbox=[1, 2, 3, float("nan")]), "no JSON"),
        (
            broken("annotations", 0, bbox=[1, 2, -3, 4]),
            r">= 0.0 - at `\$.annotations\[0\].bbox\[2\]`",
        ),
        (
            broken("annotations", 0, bbox=[1, 2, 3, 10**400]),
            r"out of range - at `\$.annotations\[0\].bbox\[3\]`",
        ),
        (broken("annotations", 0, image_id=1), "image 1, which"),
        (
            broken("annotations", 0, category_id="2"),
            r"got `str` - at `\$.annotations\[0\].category_id`",
        ),
        (broken("annotations", 0, area=-1), r">= 0.0 - at `\$.annotations\[0\].area`"),
        (broken("annotations", 0, iscrowd=2), r"at `\$.annotations\[0\].iscrowd`"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(read, values, words):
    with pytest.raises(UserError, match=words) as error:
        read(values)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


def test_whole_numbers_that_are_written_as_floats_are_read(read):
    values = broken("images", 0, id=7.0, width=64.0)
    values["annotations"][0].update(image_id=7.0, category_id=2.0)
    data = read("\ufeff" + json.dumps(values))
    numbers = [data.pictures[0].id, data.pictures[0].width, data.boxes[0].image]
    assert [(type(number), number) for number in numbers] == [(int, 7), (int, 64), (int, 7)]


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_boxes(tmp_path / "none.json")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda some: (
        st.lists(some, max_size=3) | st.dictionaries(st.text(max_size=5), some, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150)
@given(
    part=st.sampled_from(["images", "annotations", "categories"]),
    name=st.sampled_from([*GOOD["images"][0], *GOOD["annotations"][0], "novel", "name"]),
    value=JSON,
)
def test_any_value_in_any_place_is_read_or_refused(tmp_path_factory, part, name, value):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(broken(part, 0, **{name: value})))
    with contextlib.suppress(UserError):
        read_boxes(path)


def test_proposals_come_best_first_and_without_empty_boxes(read, tmp_path):
    data = read(GOOD)
    path = tmp_path / "proposals.json"
    rows = [
        {"image_id": 7, "bbox": [0, 0, 4, 4], "score": 0.2},
        {"image_id": 7, "bbox": [1, 1, 4, 4], "score": 0.9},
        {"image_id": 7, "bbox": [1, 1, 0, 4], "score": 0.95},
    ]
    path.write_text(json.dumps(rows))
    found = read_proposals(path, data.pictures)
    assert found[7].boxes.tolist() == [[1, 1, 4, 4], [0, 0, 4, 4]]
    assert found[3].boxes.shape == (0, 4)
    for changes, words in (
        ({"image_id": 5}, "image 5"),
        ({"score": 1.5}, r"<= 1.0 - at `\$\[0\].score`"),
        ({"score": None}, r"got `null` - at `\$\[0\].score`"),
        ({"bbox": "x"}, r"got `str` - at `\$\[0\].bbox`"),
    ):
        path.write_text(json.dumps([{**rows[0], **changes}]))
        with pytest.raises(UserError, match=words):
            read_proposals(path, data.pictures)
    path.write_text("{}")
    with pytest.raises(UserError, match="no list of proposals"):
        read_proposals(path, data.pictures)


def test_results_are_json_that_pycocotools_loads(tmp_path):
    coco = pytest.importorskip("pycocotools.coco")
    path = tmp_path / "new" / "results.json"
    rows = [{"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}] * 2
    write_results(path, rows)
    assert json.loads(path.read_text()) == rows
    (tmp_path / "boxes.json").write_text(json.dumps(GOOD))
    index = coco.COCO(str(tmp_path / "boxes.json"))
    assert len(index.loadRes(str(path)).anns) == 2
    write_results(path, [])
    assert json.loads(path.read_text()) == []
