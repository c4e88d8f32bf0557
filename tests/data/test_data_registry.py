import pytest
from PIL import Image

from fsclip_jax.data.registry import open_source
from fsclip_jax.errors import UserError


def test_emoji():
    assert open_source("emoji").spec == "emoji"


def test_folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (3, 3)).save(tmp_path / name / "1.png")
    assert open_source(f"folder:{tmp_path}").class_names == ("cat", "dog")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("emojis", "did you mean emoji"),
        ("emoji:x", "they have activities, animals"),
        ("folder", "accepted are"),
        ("folder:", "accepted are"),
        ("fodler:pictures", "did you mean folder"),
        ("", "accepted are"),
        ("bank:runs/bank", "a bank holds features"),
    ],
)
def test_an_unknown_spec_says_what_is_accepted(spec, expected):
    with pytest.raises(UserError) as caught:
        open_source(spec)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bare_folder_name_gets_the_right_spelling(tmp_path):
    with pytest.raises(UserError, match=f"did you mean folder:{tmp_path}"):
        open_source(str(tmp_path))
