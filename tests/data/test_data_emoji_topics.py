"""Topics of the emoji as data sets of their own."""

import numpy as np
import pytest

from fsclip_jax.data.emoji import TOPICS, open_emoji
from fsclip_jax.data.registry import open_source
from fsclip_jax.errors import UserError


def test_the_topics_share_no_class_and_no_picture_and_are_all_of_them():
    whole = open_emoji()
    parts = {topic: open_source(f"emoji:{topic}") for topic in TOPICS}
    assert sum(len(part) for part in parts.values()) == len(whole)
    names = [name for part in parts.values() for name in part.class_names]
    assert sorted(names) == sorted(whole.class_names)
    assert sorted(k for part in parts.values() for k in part.keys) == sorted(whole.keys)
    assert len({part.version for part in parts.values()} | {whole.version}) == len(parts) + 1


def test_a_topic_holds_the_same_pictures_as_the_whole():
    whole, food = open_emoji(), open_emoji("food")
    assert food.spec == "emoji:food"
    for row in (0, 77, len(food) - 1):
        other = whole.keys.index(food.keys[row])
        np.testing.assert_array_equal(np.asarray(food.load(row)), np.asarray(whole.load(other)))
        assert food.class_names[food.labels[row]] == whole.class_names[whole.labels[other]]
        assert food.splits[row] == whole.splits[other]
        assert food.domain_names[food.domains[row]] == whole.domain_names[whole.domains[other]]


def test_an_unknown_topic_is_told():
    with pytest.raises(UserError, match=r"no topic 'foods'.*did you mean"):
        open_source("emoji:foods")
