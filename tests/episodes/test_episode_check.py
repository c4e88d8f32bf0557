"""A bank that cannot give the episodes asked for is refused in one line with the numbers."""

import pytest
from episode_banks import make_bank
from hypothesis import given, settings
from hypothesis import strategies as st

from fsclip_jax.episodes.check import check_episode, check_shots
from fsclip_jax.episodes.sampler import EpisodeSpec, usable_classes
from fsclip_jax.errors import UserError


def refusal(call, *args, **kwargs):
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_too_few_classes_that_can_be_drawn():
    bank = make_bank([0, 1, 4, 2, 3])
    check_episode(bank, EpisodeSpec(3, 1, 1))
    assert refusal(check_episode, bank, EpisodeSpec(4, 1, 1)) == (
        "way is 4; 3 of 5 classes have two images, one for the support and one for the query "
        "set: give a way of 3 or less"
    )
    assert "way is 6; 3 of 5 classes have" in refusal(check_episode, bank, EpisodeSpec(6, 1, 1))


def test_no_class_that_can_be_drawn():
    assert refusal(check_episode, make_bank([1, 1]), EpisodeSpec(1, 1, 1)).endswith(
        "give more images"
    )


def test_two_images_of_one_family_do_not_count():
    bank = make_bank([3, 2], domains=[0, 0, 0, 0, 1])
    check_episode(bank, EpisodeSpec(1, 1, 1))
    assert "1 of 2 classes has two images of two families" in refusal(
        check_episode, bank, EpisodeSpec(2, 1, 1)
    )


def test_more_shots_than_any_class_can_give():
    bank = make_bank([3, 5])
    check_episode(bank, EpisodeSpec(2, 4, 1))
    check_episode(bank, EpisodeSpec(2, 9, 1, min_shot=4))
    assert "at least 5 shots asked for; no class has images for more than 4" in refusal(
        check_episode, bank, EpisodeSpec(2, 9, 1, min_shot=5)
    )
    in_families = make_bank([5, 5], domains=[0, 0, 0, 1, 1] * 2)
    check_episode(in_families, EpisodeSpec(2, 3, 1))
    assert "more than 3 " in refusal(check_episode, in_families, EpisodeSpec(2, 4, 1))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-1, 2), min_size=20, max_size=20), st.integers(0, 8))
def test_the_host_counts_classes_as_the_sampler_does(domains, first):
    bank = make_bank([first, 1, 2, 9 - first, 3, 4, 0, 1], domains)
    drawable = int(usable_classes(bank).sum())
    if drawable >= 2:
        check_episode(bank, EpisodeSpec(drawable, 1, 1))
    message = refusal(check_episode, bank, EpisodeSpec(max(2, drawable + 1), 1, 1))
    assert f"; {drawable} of 8 classes ha" in message


def test_a_class_with_too_few_images_is_named():
    bank = make_bank([4, 2, 3])
    check_shots(bank, 2)
    assert refusal(check_shots, bank, 3, ("cat", "dog", "owl")) == (
        "1 of 3 classes have fewer than 3 images; the smallest, 'dog', has 2: "
        "give 2 shots or less, or more images"
    )
    assert "fewer than 2 + 1 images; the smallest, number 1, has 2: give 1 shots" in refusal(
        check_shots, bank, 2, spare=1
    )
    assert refusal(check_shots, make_bank([4, 0]), 1).endswith("has 0: give more images")
