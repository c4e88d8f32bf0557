"""Tiny copies of published data sets, laid out on disk as the true ones are."""

import io
import json

import numpy as np
from PIL import Image

from fsclip_jax.data.catalog import KNOWN_SETS
from fsclip_jax.data.names import class_names
from fsclip_jax.data.splits import SPLITS


def picture(path, color=(200, 10, 30), size=(9, 7), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)
    return path


def encoded(color=(200, 10, 30), kind="JPEG", size=(9, 7)):
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, kind)
    return file.getvalue()


def split_json(base, coop, rows):
    """Write a split file of (path, label, name, split) and the pictures that it names."""
    content = {"train": [], "val": [], "test": []}
    for index, (key, label, name, split) in enumerate(rows):
        content[split].append([key, label, name])
        picture(base / coop.images / key, color=(index, label, 0))
    base.mkdir(parents=True, exist_ok=True)
    (base / coop.split).write_text(json.dumps(content))


def first_and_last(known):
    """Two classes of a set whose folder and split spell its names as they are."""
    names = class_names(known) or ("cat", "dog")
    ends = {0: names[0], len(names) - 1: names[-1]}
    rows = [(f"{name}/1.jpg".replace(" ", "_"), label, name) for label, name in ends.items()]
    return rows, tuple(ends.values())


def images_per_class(source, split=None):
    labels = source.labels
    if split is not None:
        labels = labels[source.splits == SPLITS.index(split)]
    return np.bincount(labels, minlength=len(source.class_names))


JSON_SETS = {
    known.name: first_and_last(known) for known in KNOWN_SETS if known.coop and known.coop.split
}
JSON_SETS |= {
    # name: (path, label, raw class name) of an image of two classes, and the clean names
    "caltech101": (
        [("Faces/image_0001.jpg", 0, "face"), ("airplanes/image_0001.jpg", 4, "airplane")],
        ("face", "airplane"),
    ),
    "oxford_pets": (
        [
            ("Abyssinian_122.jpg", 0, "abyssinian"),
            ("yorkshire_terrier_9.jpg", 36, "yorkshire_terrier"),
        ],
        ("abyssinian", "yorkshire terrier"),
    ),
    "stanford_cars": (
        [
            ("cars_train/00001.jpg", 1, "2012 Acura RL Sedan"),
            ("cars_test/00001.jpg", 7, "2012 smart fortwo Convertible"),
        ],
        ("2012 Acura RL Sedan", "2012 smart fortwo Convertible"),
    ),
    "oxford_flowers": (
        [("image_06734.jpg", 0, "pink primrose"), ("image_00001.jpg", 77, "lotus")],
        ("pink primrose", "lotus"),  # CoOp's file has the last word
    ),
    "food101": (
        [("apple_pie/134.jpg", 0, "apple_pie"), ("waffles/7.jpg", 100, "waffles")],
        ("apple pie", "waffles"),
    ),
    "sun397": (
        [
            ("a/abbey/sun_aa.jpg", 0, "abbey"),
            ("a/athletic_field/outdoor/sun_b.jpg", 23, "outdoor athletic_field"),
        ],
        ("abbey", "outdoor athletic field"),
    ),
    "dtd": (
        [
            ("banded/banded_0002.jpg", 0, "banded"),
            ("zigzagged/zigzagged_0001.jpg", 46, "zigzagged"),
        ],
        ("banded", "zigzagged"),
    ),
    "eurosat": (
        [("AnnualCrop/AnnualCrop_1.jpg", 0, "AnnualCrop"), ("River/River_2.jpg", 8, "River")],
        ("Annual Crop Land", "River"),
    ),
    "ucf101": (
        [
            ("Apply_Eye_Makeup/v_ApplyEyeMakeup_g08_c01.jpg", 0, "Apply_Eye_Makeup"),
            ("Yo_Yo/v_YoYo_g01_c01.jpg", 100, "YoYo"),
        ],
        ("Apply Eye Makeup", "Yo Yo"),
    ),
}
