import numpy as np
import pytest
from PIL import Image

from fsclip_jax.data.source import (
    ImageSource,
    UnreadableImage,
    images_per_class,
    require_images,
)
from fsclip_jax.errors import UserError


def source(counts, splits=None):
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return ImageSource(
        spec="folder:things",
        version="0",
        class_names=tuple(f"class {i}" for i in range(len(counts))),
        labels=labels,
        keys=tuple(str(i) for i in range(len(labels))),
        splits=np.zeros(len(labels), np.int8) if splits is None else np.array(splits, np.int8),
        domains=None,
        domain_names=(),
        templates=("{}",),
        load=lambda i: Image.new("RGB", (i + 1, 1)),
    )


def test_images_are_counted_per_class_and_split():
    data = source([2, 3], splits=[0, 2, 0, 0, 2])
    assert len(data) == 5
    assert images_per_class(data).tolist() == [2, 3]
    assert images_per_class(data, "train").tolist() == [1, 2]
    assert images_per_class(data, "val").tolist() == [0, 0]


def test_enough_images_are_fine():
    require_images(source([3, 5]), 2)


def test_too_few_images_are_named():
    with pytest.raises(UserError) as caught:
        require_images(source([3, 2, 9, 1]), 2)
    message = str(caught.value)
    assert "\n" not in message
    assert "class 1 (2), class 3 (1)" in message
    assert "class 0" not in message
    assert "at least 3" in message


def test_too_few_images_of_one_split_are_named():
    data = source([2, 2], splits=[0, 0, 0, 1])
    require_images(data, 1)
    with pytest.raises(UserError, match=r"in the train split.*class 1 \(1\)"):
        require_images(data, 1, "train")


def test_a_long_list_of_classes_is_cut():
    with pytest.raises(UserError, match="and 15 more"):
        require_images(source([1] * 20), 4)


def test_an_unreadable_image_names_its_key_and_is_an_os_error():
    error = UnreadableImage("cat/1.jpg", "the file is empty")
    assert isinstance(error, OSError)
    assert (error.key, error.reason) == ("cat/1.jpg", "the file is empty")
    assert str(error) == "cat/1.jpg: the file is empty"
