import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from replicas import images_per_class

import fsclip_jax
from fsclip_jax.data.emoji import open_emoji
from fsclip_jax.data.splits import EMOJI_FAMILY_SPLITS, SPLITS, base_novel

ASSETS = Path(fsclip_jax.__file__).parent / "assets" / "emoji"
ROOT = Path(fsclip_jax.__file__).parents[1]


@pytest.fixture(scope="module")
def emoji():
    return open_emoji()


@pytest.fixture(scope="module")
def index():
    return json.loads((ASSETS / "emoji.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def images(emoji):
    return np.stack([np.asarray(emoji.load(i)) for i in range(len(emoji))])


def test_there_are_as_many_as_promised(emoji, index):
    assert len(emoji.class_names) == 627
    assert len(emoji) == len(emoji.labels) == len(emoji.splits) == len(emoji.domains) == 6363
    assert len(index["sets"]) == 11
    assert len(list(ASSETS.glob("*.webp"))) == 11
    assert set(emoji.domain_names) == set(EMOJI_FAMILY_SPLITS)
    assert images_per_class(emoji).min() >= 8


def test_classes_are_in_the_fixed_pseudo_random_order(emoji, index):
    digests = [hashlib.sha256(c["code_point"].encode()).hexdigest() for c in index["classes"]]
    assert digests == sorted(digests)
    assert emoji.class_names == tuple(c["name"] for c in index["classes"])
    assert len(set(emoji.class_names)) == 627
    assert all(name.isascii() for name in emoji.class_names)


def test_both_halves_cover_the_same_topics(index):
    groups = np.array([entry["group"] for entry in index["classes"]])
    base, novel = base_novel(len(groups))
    for group in set(groups):
        share = [(groups[half] == group).mean() for half in (base, novel)]
        assert abs(share[0] - share[1]) < 0.06


def test_every_sheet_holds_the_pixels_it_was_built_with(index):
    for entry in index["sets"]:
        with Image.open(ASSETS / entry["file"]) as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == entry["sha256"], entry["name"]


def test_every_cell_of_a_set_is_used_once_and_in_order(index):
    for position, entry in enumerate(index["sets"]):
        cells = [c["cells"][position] for c in index["classes"]]
        assert [cell for cell in cells if cell is not None] == list(range(entry["count"]))


def test_no_picture_is_blank(images):
    assert images.shape == (6363, 64, 64, 3)
    flat = images.reshape(len(images), -1)
    assert np.ptp(flat, axis=1).min() > 30


def test_equal_pictures_are_the_two_pairs_that_the_artists_drew_alike(emoji, images):
    seen = {}
    twins = []
    for i, image in enumerate(images):
        twin = seen.setdefault(image.tobytes(), i)
        if twin != i:
            twins.append({emoji.keys[twin], emoji.keys[i]})
    # Two hourglasses, and a DVD and an optical disk. More would mean a wrong cell.
    assert len(twins) == 2
    assert {"fxemoji/23f3", "fxemoji/231b"} in twins
    assert {"fluent-emoji-high-contrast/1f4c0", "fluent-emoji-high-contrast/1f4bf"} in twins


def test_art_of_one_concept_looks_more_alike_than_art_of_two(emoji, images):
    # Two renderings by one artist family nearly share their shape: a shifted sheet breaks this.
    flat, colour = ({}, {})
    for key, label, image in zip(emoji.keys, emoji.labels.tolist(), images, strict=True):
        for name, small in (("fluent-emoji-flat", flat), ("fluent-emoji-3d", colour)):
            if key.startswith(f"{name}/"):
                small[label] = image.reshape(8, 8, 8, 8, 3).mean((1, 3)).ravel()
    queries = np.stack([flat[label] for label in range(627)])
    keys = np.stack([colour[label] for label in range(627)])
    distances = (queries**2).sum(1)[:, None] - 2 * queries @ keys.T + (keys**2).sum(1)
    assert (distances.argmin(1) == np.arange(627)).mean() > 0.9


def test_the_split_of_an_image_is_its_familys(emoji):
    for family, split in EMOJI_FAMILY_SPLITS.items():
        mask = emoji.domains == emoji.domain_names.index(family)
        assert mask.any()
        assert set(emoji.splits[mask]) == {SPLITS.index(split)}


def test_every_class_has_support_and_queries_in_both_halves(emoji):
    train, val, test = (images_per_class(emoji, split) for split in SPLITS)
    assert train.min() >= 4
    assert test.min() >= 4
    assert val.max() == 1
    assert val.sum() == 431
    for half in base_novel(627):
        assert val[half].sum() > 200


def test_keys_are_unique_and_name_set_and_code_point(emoji):
    assert len(set(emoji.keys)) == len(emoji.keys)
    monkey = emoji.keys.index("noto/1f435")
    assert emoji.class_names[emoji.labels[monkey]] == "monkey face"


def test_two_openings_are_equal(emoji, images):
    again = open_emoji()
    assert again.version == emoji.version
    assert again.keys == emoji.keys
    assert np.array_equal(again.labels, emoji.labels)
    assert np.array_equal(np.asarray(again.load(1234)), images[1234])


def test_many_threads_may_read_at_once(images):
    fresh = open_emoji()
    indices = list(range(0, 600, 7))
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(fresh.load, indices))
    for i, picture in zip(indices, read, strict=True):
        assert np.array_equal(np.asarray(picture), images[i])


def test_a_picture_is_the_callers_own(emoji):
    picture = emoji.load(0)
    picture.paste((1, 2, 3), (0, 0, 64, 64))
    assert np.asarray(emoji.load(0)).std() > 5


@pytest.mark.parametrize("file", ["NOTICE", "fsclip_jax/assets/emoji/LICENSES.md"])
def test_every_artist_and_licence_is_named(index, file):
    path = ROOT / file
    if not path.is_file():
        pytest.skip(f"{file} is not part of an installed package")
    text = path.read_text("utf-8")
    for entry in index["sets"]:
        for fact in ("title", "author", "url", "licence"):
            assert entry[fact] in text, (entry["name"], fact)
