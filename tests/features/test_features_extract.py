"""Extraction: right features, one compile, and the same bits after any interruption."""

import atexit
import contextlib
import dataclasses
import json
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from folders import content
from safetensors.numpy import load_file, save_file
from tiny_clip import linear_towers, noise, noise_source, tiny_backbone
from vectors import unit

from fsclip_jax.clip.model import encode_image, encode_text
from fsclip_jax.errors import UserError
from fsclip_jax.features import extract as extract_module
from fsclip_jax.features import images as images_module
from fsclip_jax.features import shards as shards_module
from fsclip_jax.features.extract import bank_for, default_cache, extract, identity, prompts_of
from fsclip_jax.features.layout import partial_name
from fsclip_jax.features.shards import ExtractSettings
from fsclip_jax.features.store import open_bank
from fsclip_jax.features.text import class_text_features


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture
def linear(monkeypatch):
    """Quick stand-ins for the towers, where what they compute is not the question."""
    linear_towers(monkeypatch.setattr)


SETTINGS = ExtractSettings(views=2, dtype="float32", shard=4, batch=8)


def test_view_0_is_clip_itself(backbone, tmp_path):
    bank = extract(noise_source(5), backbone, tmp_path / "bank", SETTINGS)
    crops = np.stack([backbone.preprocess.crop(noise(index)) for index in range(5)])
    pixels = backbone.preprocess.normalize(crops)
    expected = unit(encode_image(backbone.graphdef, backbone.state, pixels))
    np.testing.assert_allclose(bank.features[0], expected, atol=1e-5)
    assert np.abs(bank.features[1] - expected).max() > 1e-3
    assert bank.logit_scale == 50
    assert bank.manifest["backbone"] == {"id": "tiny", "sha256": "0" * 64}
    assert bank.manifest["preprocessing"]["size"] == 32
    assert bank.manifest["augmentation"]["area"] == [0.5, 1.0]
    open_bank(bank.path, verify=True)


def test_text_features_are_means_of_unit_vectors(backbone, tmp_path):
    settings = ExtractSettings(prompts=True, batch=4)
    bank = extract(noise_source(5), backbone, tmp_path / "bank", settings)
    names = bank.class_names
    prompts = [f"a {name}" for name in names] + [f"{name} here" for name in names]
    each = unit(
        encode_text(backbone.graphdef, backbone.state, jnp.asarray(backbone.tokenizer(prompts)))
    )
    each = each.reshape(2, 3, -1)
    np.testing.assert_allclose(bank.text_features, unit(each.mean(0)), atol=1e-5)
    np.testing.assert_allclose(bank.prompt_features, each, atol=1e-5)
    assert bank.prompt_mask.all()
    texts = [(f"a {name}", f"{name} here") for name in names]
    small = class_text_features(backbone, texts, batch=2).text
    np.testing.assert_allclose(small, bank.text_features, atol=1e-6)
    assert bank.text_lengths.shape == (3,)


def test_a_bank_from_before_lengths_were_kept_is_found_and_keeps_none(backbone, tmp_path):
    place = extract(noise_source(5), backbone, tmp_path / "bank", SETTINGS).path
    text, manifest = (place / name for name in ("text.safetensors", "manifest.json"))
    tensors = load_file(text)
    del tensors["text_lengths"]
    save_file(tensors, text)
    about = json.loads(manifest.read_text())
    assert about["settings"].pop("text_lengths")
    about["files"][text.name]["bytes"] = text.stat().st_size
    manifest.write_text(json.dumps(about))
    again = extract(noise_source(5), backbone, place, SETTINGS)
    assert again.text_lengths is None
    assert again.select(["train"]).text_lengths is None
    with pytest.raises(UserError, match="exists already"):
        extract(noise_source(5), backbone, place, dataclasses.replace(SETTINGS, seed=9))


def test_classes_may_have_any_number_of_prompts(backbone):
    texts = [("a", "b", "c"), ("d",), ("e", "f")]
    mean, each, mask, lengths = class_text_features(backbone, texts)
    ids = jnp.asarray(backbone.tokenizer(["a", "b", "c", "d", "e", "f"]))
    raw = np.asarray(encode_text(backbone.graphdef, backbone.state, ids))
    towers = [raw[:3].mean(0), raw[3], raw[4:].mean(0)]
    np.testing.assert_allclose(lengths, np.linalg.norm(towers, axis=-1), rtol=1e-4)
    assert mask.T.tolist() == [[True] * 3, [True, False, False], [True, True, False]]
    for label, of_class in enumerate(texts):
        alone, vectors, _, _ = class_text_features(backbone, [of_class])
        np.testing.assert_allclose(mean[label], alone[0], atol=1e-6)
        np.testing.assert_allclose(each[mask[:, label], label], vectors[:, 0], atol=1e-6)
    assert not each[~mask].any()
    with pytest.raises(ValueError, match="needs a prompt"):
        class_text_features(backbone, [("a",), ()])


@pytest.mark.usefixtures("linear")
def test_features_do_not_depend_on_batch_or_shard(backbone, tmp_path):
    source = noise_source(11, families=2)
    banks = [
        extract(source, backbone, tmp_path / f"b{batch}", ExtractSettings(
            views=3, dtype="float32", shard=shard, batch=batch))
        for batch, shard in ((64, 100), (4, 3), (7, 11))
    ]  # fmt: skip
    for bank in banks[1:]:
        np.testing.assert_allclose(bank.features, banks[0].features, atol=1e-5)
        assert bank.keys == banks[0].keys == source.keys
    assert banks[0].domains.tolist() == source.domains.tolist()


@pytest.fixture
def traces(linear, monkeypatch):  # noqa: ARG001 (it wraps the stand-in that `linear` put there)
    """Shapes for which the image tower was compiled."""
    shapes = []
    tower = images_module.encode_image

    def counted(graphdef, state, pixels):
        shapes.append(pixels.shape)
        return tower(graphdef, state, pixels)

    monkeypatch.setattr(images_module, "encode_image", counted)
    return shapes


def test_one_compile_whatever_the_last_batch_holds(backbone, tmp_path, traces):
    settings = ExtractSettings(views=2, shard=5, batch=8)
    extract(noise_source(13, unreadable={2}), backbone, tmp_path / "bank", settings)
    assert traces == [(8, 32, 32, 3)]


def test_a_continued_extraction_has_batches_of_the_same_size(
    backbone, tmp_path, traces, monkeypatch
):
    settings = dataclasses.replace(SETTINGS, batch=64)
    interrupted_after(noise_source(11), backbone, tmp_path / "b", 2, monkeypatch, settings)
    extract(noise_source(11), backbone, tmp_path / "b", settings)
    assert traces == [(8, 32, 32, 3)]  # the views of a shard, of which the last has 6; shared


def test_a_bank_has_the_same_bits_on_any_number_of_devices(backbone, tmp_path):
    """With the real towers: 3 batches of view pairs a shard, 4 shards, spread over 4 devices."""
    settings = dataclasses.replace(SETTINGS, shard=9, batch=8)
    source = noise_source(31, unreadable={3, 20})
    extract(source, backbone, tmp_path / "alone", settings)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    extract(source, backbone, tmp_path / "shared", settings, mesh)
    assert content(tmp_path / "alone") == content(tmp_path / "shared")


@pytest.mark.usefixtures("linear")
def test_unreadable_images_are_skipped_counted_and_named(backbone, tmp_path, capsys):
    source = noise_source(11, unreadable={0, 1, 2, 3, 9})  # the first shard is empty
    bank = extract(source, backbone, tmp_path / "bank", SETTINGS)
    assert bank.keys == tuple(f"img/{index}.png" for index in (4, 5, 6, 7, 8, 10))
    assert bank.manifest["skipped"] == [f"img/{index}.png" for index in (0, 1, 2, 3, 9)]
    whole = extract(noise_source(11), backbone, tmp_path / "whole", SETTINGS)
    rows = [4, 5, 6, 7, 8, 10]
    np.testing.assert_allclose(bank.features, whole.features[:, rows], atol=1e-5)
    said = capsys.readouterr().err
    assert "unreadable image skipped: img/9.png: is cut short" in said
    assert "skipped 5 unreadable image(s): img/0.png, img/1.png" in said


@pytest.mark.usefixtures("linear")
def test_a_class_of_which_nothing_can_be_read(backbone, tmp_path):
    place = tmp_path / "bank"
    with pytest.raises(UserError, match="no image can be read of the class thing 1"):
        extract(noise_source(11, unreadable={1, 4, 7, 10}), backbone, place, SETTINGS)
    assert not place.exists()
    # Repaired images are read again.
    assert len(extract(noise_source(11), backbone, place, SETTINGS).labels) == 11


def interrupted_after(source, backbone, place, shards, monkeypatch, settings=SETTINGS):
    """Run an extraction that is cut off after some shards."""
    write = shards_module.write_shard
    left = iter(range(shards))

    def cut(*args):
        if next(left, None) is None:
            raise KeyboardInterrupt
        write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(shards_module, "write_shard", cut)
        with pytest.raises(KeyboardInterrupt):
            extract(source, backbone, place, settings)


@pytest.mark.usefixtures("linear")
@pytest.mark.parametrize("finished", [0, 1, 2])
def test_a_continued_extraction_gives_the_same_bits(backbone, tmp_path, monkeypatch, finished):
    extract(noise_source(11), backbone, tmp_path / "whole", SETTINGS)
    place = tmp_path / "cut"
    interrupted_after(noise_source(11), backbone, place, finished, monkeypatch)
    assert not place.exists()
    opened = []
    extract(noise_source(11, opened=opened), backbone, place, SETTINGS)
    assert sorted(opened) == list(range(4 * finished, 11))  # finished shards are not read again
    assert content(place) == content(tmp_path / "whole")
    assert not partial_name(place).exists()


@pytest.mark.usefixtures("linear")
@pytest.mark.parametrize(
    ("source", "settings", "named"),
    [
        (noise_source(11, version="2"), SETTINGS, "data"),
        (noise_source(10), SETTINGS, "data"),
        (noise_source(11), ExtractSettings(views=3, dtype="float32", shard=4), "views"),
        (noise_source(11), ExtractSettings(views=2, dtype="float32", shard=5), "shard"),
        (noise_source(11), ExtractSettings(views=2, dtype="float16", shard=4), "dtype"),
    ],
)
def test_an_unfinished_bank_of_other_settings(
    backbone, tmp_path, monkeypatch, source, settings, named
):
    place = tmp_path / "cut"
    interrupted_after(noise_source(11), backbone, place, 1, monkeypatch)
    with pytest.raises(UserError, match=rf"made otherwise \({named} differ\)"):
        extract(source, backbone, place, settings)
    with pytest.raises(UserError, match=r"made otherwise \(backbone differ\)"):
        extract(noise_source(11), tiny_backbone(1), place, SETTINGS)


@pytest.mark.usefixtures("linear")
def test_a_whole_bank_is_not_made_again(backbone, tmp_path):
    extract(noise_source(11), backbone, tmp_path / "bank", SETTINGS)
    opened = []
    again = extract(noise_source(11, opened=opened), backbone, tmp_path / "bank", SETTINGS)
    assert (len(again.labels), opened) == (11, [])
    with pytest.raises(UserError, match="exists already"):
        extract(noise_source(10), backbone, tmp_path / "bank", SETTINGS)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    with pytest.raises(UserError, match="exists already"):
        extract(noise_source(11), backbone, tmp_path / "full", SETTINGS)


@pytest.mark.usefixtures("linear")
@pytest.mark.usefixtures("linear")
def test_of_two_extractions_at_once_one_says_that_the_other_wrote(
    backbone, tmp_path, monkeypatch, capsys
):
    place, held = tmp_path / "bank", extract_module.exclusive
    source = noise_source(11)

    @contextlib.contextmanager
    def after_another(folder):
        monkeypatch.setattr(extract_module, "exclusive", held)
        extract(source, backbone, place, SETTINGS)
        capsys.readouterr()
        yield folder

    monkeypatch.setattr(extract_module, "exclusive", after_another)
    assert len(extract(source, backbone, place, SETTINGS).labels) == 11
    line = f"note: another process has written {place} while this one waited\n"
    assert capsys.readouterr().err == line


@pytest.mark.parametrize("home", [None, "file"])
def test_without_a_home_features_are_kept_for_the_run(monkeypatch, tmp_path, capsys, home):
    for name in ("FSCLIP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "file").write_text("")

    def home_of():
        if home is None:
            raise RuntimeError(f"Could not determine home directory, {tmp_path}")
        return tmp_path / home

    monkeypatch.setattr(Path, "home", home_of)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    ended = []
    monkeypatch.setattr(atexit, "register", lambda *call, **named: ended.append((call, named)))
    folder = default_cache()
    assert folder.is_dir()
    assert folder.parent == tmp_path
    assert default_cache() == folder
    told = capsys.readouterr().err
    assert told.startswith("note: extracted features are kept for this run only (")
    assert told.endswith("); FSCLIP_CACHE=DIR keeps them\n")
    assert told.count("\n") == 1
    [((remove, *call), named)] = ended
    remove(*call, **named)
    assert not folder.exists()


def test_a_cache_that_was_named_and_cannot_be_made_is_refused(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path / "file" / "banks"))
    with pytest.raises(UserError, match=r"Not a directory.*set FSCLIP_CACHE to another folder"):
        default_cache()
    monkeypatch.setenv("FSCLIP_CACHE", str(tmp_path / "banks"))
    assert default_cache() == tmp_path / "banks"


def test_bank_for_extracts_once(backbone, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(extract_module, "open_source", lambda _: noise_source(6, opened=opened))
    monkeypatch.setattr(extract_module, "load_clip", lambda _: backbone)
    first = bank_for("noise", "tiny", cache=tmp_path / "cache")
    assert sorted(opened) == list(range(6))
    again = bank_for("noise", "tiny", cache=tmp_path / "cache")
    assert again.path == first.path
    assert sorted(opened) == list(range(6))
    more = bank_for("noise", "tiny", ExtractSettings(views=2), tmp_path / "cache")
    assert more.path != first.path
    assert (first.views, more.views) == (1, 2)
    prompted = bank_for("noise", "tiny", ExtractSettings(prompts=True), tmp_path / "cache")
    assert prompted.path not in (first.path, more.path)
    assert first.prompt_features is None
    assert prompted.prompt_features.shape[:2] == (2, 3)
    assert {path.name.split("-")[0] for path in (tmp_path / "cache").iterdir()} == {"noise"}


def test_bank_for_opens_a_bank(make_bank):
    path = make_bank().path
    for backbone in (None, "mini", "tiny"):  # mini is what nobody chose
        assert bank_for(f"bank:{path}", backbone).path == path
    with pytest.raises(UserError, match="made with the backbone tiny, not other"):
        bank_for(f"bank:{path}", "other")
    with pytest.raises(UserError, match="there is no bank"):
        bank_for("bank:nowhere")
    with pytest.raises(UserError, match="bank:DIR"):
        bank_for("bank:")


def test_the_mini_clip_is_asked_bare_names():
    source, other = noise_source(), tiny_backbone()
    mini = dataclasses.replace(other, id="mini")
    assert prompts_of(source, other).templates == source.templates
    assert prompts_of(source, mini, ExtractSettings(templates="ensemble")).templates == ("{}",)
    assert prompts_of(source, mini).each[0] == ("thing 0",)
    settings = ExtractSettings()
    assert identity(source, mini, settings)["templates"] == ["{}"]
