"""Prompts: templates, the ensemble, and sentences from a file."""

import dataclasses
import json

import numpy as np
import pytest

from fsclip_jax.data.emoji import open_emoji
from fsclip_jax.data.prompts import choose_prompts, ensemble_of, read_prompt_file
from fsclip_jax.data.source import ImageSource
from fsclip_jax.data.templates import ENSEMBLE, PHOTO
from fsclip_jax.errors import UserError


def source(spec="folder:x", names=("hot dog", "tench"), templates=PHOTO):
    n = len(names)
    return ImageSource(
        spec=spec,
        version="1",
        class_names=names,
        labels=np.arange(n, dtype=np.int32),
        keys=tuple(map(str, range(n))),
        splits=np.zeros(n, np.int8),
        templates=templates,
        load=lambda _: None,
    )


def write(path, content):
    path.write_text(json.dumps(content), "utf-8")
    return path


def refused(path, names=("hot dog", "tench")):
    with pytest.raises(UserError) as caught:
        read_prompt_file(path, names)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_the_single_template():
    made = choose_prompts(source())
    assert made.each == (("a photo of a hot dog.",), ("a photo of a tench.",))
    assert made.templates == PHOTO
    assert made.file is None


def test_the_ensemble_is_seven_on_imagenet_and_eight_elsewhere():
    imagenet = choose_prompts(source("coop:imagenet@/x"), templates="ensemble")
    assert imagenet.templates == ENSEMBLE
    assert len(imagenet.each[0]) == 7
    own = ("a centered satellite photo of {}.",)
    for spec in ("coop:eurosat@/x", "tfds:eurosat/rgb", "tfds:eurosat@f.json", "folder:eurosat"):
        assert ensemble_of(source(spec, templates=own)) == (*ENSEMBLE, *own)
    assert ensemble_of(source("hf:ilsvrc/imagenet-1k")) == ENSEMBLE
    assert ensemble_of(source("hf:me/food101"))[-1] == PHOTO[0]  # the reader did not know it
    assert ensemble_of(source("folder:food101"))[-1] == PHOTO[0]  # a folder is nobody's data set


def test_a_backbone_of_bare_names_is_asked_these():
    for templates in ("single", "ensemble"):
        made = choose_prompts(source(), templates=templates, bare=True)
        assert made.each == (("hot dog",), ("tench",))


def test_a_template_without_a_place_for_the_name():
    with pytest.raises(UserError, match=r"needs \{\} where"):
        choose_prompts(source(templates=("a photo",)))
    with pytest.raises(UserError, match="no template"):
        choose_prompts(source(templates=()))


def test_sentences_of_a_file_replace_the_templates(tmp_path):
    content = {"Hot_Dog": ["A sausage in a bun.", "{} with mustard."], "tench": ["A green fish."]}
    path = write(tmp_path / "cupl.json", content)
    for bare in (False, True):
        made = choose_prompts(source(), file=path, bare=bare)
        assert made.each == (("A sausage in a bun.", "hot dog with mustard."), ("A green fish.",))
        assert made.notes == ()
        assert made.file["name"] == "cupl.json"
    write(path, content | {"tench": ["Another fish."]})
    assert choose_prompts(source(), file=path).file["sha256"] != made.file["sha256"]


def test_classes_that_the_data_has_not_are_told_of(tmp_path):
    path = write(tmp_path / "p.json", {"tench": ["a"], "hot dog": ["b"], "zebra": ["c"]})
    each, notes = read_prompt_file(path, ("tench", "hot dog"))
    assert each == (("a",), ("b",))
    assert len(notes) == 1
    assert "1 classes are not in the data: zebra" in notes[0]


def test_equal_names_get_equal_sentences(tmp_path):
    path = write(tmp_path / "p.json", {"missile": ["a"]})
    assert read_prompt_file(path, ("missile", "missile"))[0] == (("a",), ("a",))


def test_a_missing_class_is_named_with_what_it_may_be_called(tmp_path):
    path = write(tmp_path / "p.json", {"tench": ["a"], "hotdog": ["b"]})
    message = refused(path)
    assert "1 of 2 classes: hot dog; is it called hotdog?" in message
    assert "not in the data: hotdog" in message


def test_two_spellings_of_a_class(tmp_path):
    path = write(tmp_path / "p.json", {"tench": ["a"], "hot dog": ["b"], "Hot_dog": ["c"]})
    assert "are one class" in refused(path)


@pytest.mark.parametrize(
    "content",
    [[], {}, {"tench": []}, {"tench": "a fish"}, {"tench": [3]}, {"tench": [" "]}, {"tench": None}],
)
def test_a_file_of_another_layout(tmp_path, content):
    assert 'expected is {"CLASS": ["a sentence"' in refused(write(tmp_path / "p.json", content))


def test_no_file_and_no_json(tmp_path):
    assert "cannot be read" in refused(tmp_path / "nowhere.json")
    (tmp_path / "p.json").write_bytes(b"{")
    assert "is no JSON" in refused(tmp_path / "p.json")
    assert "cannot be read" in refused(tmp_path)


def test_names_in_any_alphabet(tmp_path):
    path = write(tmp_path / "p.json", {"перец": ["красный"], "寿司": ["一种食物"]})
    assert read_prompt_file(path, ("寿司", "перец"))[0] == (("一种食物",), ("красный",))


def test_emoji_have_bare_names():
    emoji = dataclasses.replace(open_emoji())
    assert choose_prompts(emoji).each[0] == ("scorpion",)
