import pytest

from fsclip_jax.data.catalog import find_known
from fsclip_jax.data.templates import BARE, ENSEMBLE, PHOTO, prompts


@pytest.mark.parametrize("templates", [BARE, PHOTO, ENSEMBLE])
def test_every_template_takes_the_name_once(templates):
    assert all(template.count("{}") == 1 for template in templates)


def test_prompts_spell_the_name_with_spaces():
    assert prompts("Annual_Crop_Land", find_known("eurosat").templates) == [
        "a centered satellite photo of Annual Crop Land."
    ]
    assert len(prompts("dog", ENSEMBLE)) == len(set(prompts("dog", ENSEMBLE))) == 7


def test_braces_in_a_name_are_no_placeholder():
    assert prompts("a{0}b", BARE) == ["a{0}b"]


def test_a_template_without_a_place_is_refused():
    with pytest.raises(ValueError, match=r"no \{\}"):
        prompts("dog", ["a photo"])
