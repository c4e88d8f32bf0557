"""Models of the hub, with the hub's client replaced by a folder: no test needs a network."""

import types
from fnmatch import fnmatch

import clip_cases as cases
import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import errors

from fsclip_jax.clip import hub
from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.save import save_clip
from fsclip_jax.errors import UserError
from fsclip_jax.hub import parse_id

NAME = "patch16_quick_largest_id"


class FakeHub:
    """A hub of one repository: files of a folder, and what was asked for."""

    def __init__(self, folder, extra=()):
        self.folder, self.extra, self.asked = folder, extra, []
        self.failure = None

    def model_info(self, name, *, revision, files_metadata):
        assert files_metadata
        self.asked.append((name, revision))
        if self.failure is not None:
            raise self.failure
        names = [*(path.name for path in self.folder.iterdir()), *self.extra]
        siblings = [types.SimpleNamespace(rfilename=file, size=2_000_000) for file in names]
        return types.SimpleNamespace(sha="f" * 40, siblings=siblings)

    def snapshot_download(self, name, *, revision, allow_patterns=None, local_files_only=False):
        assert (name, revision) == self.asked[-1]
        if local_files_only:
            raise errors.LocalEntryNotFoundError("no such snapshot")
        self.patterns = allow_patterns
        return str(self.folder)


def response():
    return types.SimpleNamespace(headers={}, request=None)


@pytest.fixture
def online(monkeypatch, parts, tmp_path):
    save_clip("hf", tmp_path / "model", *parts(NAME))
    fake = FakeHub(tmp_path / "model")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    return fake


def refused(spec, *named):
    with pytest.raises(UserError) as caught:
        load_clip(spec)
    line = str(caught.value)
    assert "\n" not in line
    for part in named:
        assert part in line
    return line


@pytest.mark.parametrize(
    ("spec", "name", "revision"),
    [
        ("some/clip", "some/clip", None),
        ("some/clip@main", "some/clip", "main"),
        ("some/clip@refs/pr/1", "some/clip", "refs/pr/1"),
        ("timm/resnet50_clip.openai@3d74acf", "timm/resnet50_clip.openai", "3d74acf"),
    ],
)
def test_ids_and_revisions_are_told_apart(spec, name, revision):
    assert parse_id(spec) == (name, revision)


@pytest.mark.parametrize("spec", ["mini", "a/b/c", "some/clip@", "@main", "../x", "some /clip"])
def test_other_specs_are_no_ids(spec):
    assert parse_id(spec) is None


def test_a_revision_is_asked_for_and_told(online, capsys):
    clip = load_clip("some/clip@v2")
    assert clip.id == "some/clip@v2"
    assert online.asked == [("some/clip", "v2")]
    assert capsys.readouterr().err == "downloading some/clip: 2 MB\n"
    again = load_clip(str(online.folder))
    assert clip.sha256 == again.sha256
    np.testing.assert_array_equal(
        cases.encode_text(clip.graphdef, clip.state, cases.ids_of(NAME)),
        cases.encode_text(again.graphdef, again.state, cases.ids_of(NAME)),
    )


@pytest.mark.parametrize(
    ("extra", "fetched"),
    [
        (["pytorch_model.bin", "flax_model.msgpack", "tf_model.h5"], {"model.safetensors"}),
        (["open_clip_pytorch_model.bin"], {"model.safetensors"}),
    ],
)
def test_one_form_of_the_weights_is_fetched(online, extra, fetched):
    online.extra = extra
    load_clip("some/clip")
    names = [*extra, *(path.name for path in online.folder.iterdir())]
    weights = {
        name
        for name in names
        if any(fnmatch(name, pattern) for pattern in online.patterns)
        and name.endswith((".safetensors", ".bin", ".msgpack", ".h5"))
    }
    assert weights == fetched


def test_of_timms_repositories_open_clips_form_is_fetched(online, parts, tmp_path):
    save_clip("open_clip", tmp_path / "timm", *parts("open_clip_rn"))
    (tmp_path / "timm" / "config.json").write_text('{"architecture": "resnet50_clip"}')
    online.folder, online.extra = tmp_path / "timm", ["model.safetensors", "pytorch_model.bin"]
    load_clip("timm/resnet50_clip.openai")
    assert "open_clip_model.safetensors" in online.patterns
    assert "model.safetensors" not in online.patterns


def test_shards_are_fetched_with_their_index():
    names = ["model.safetensors.index.json", "model-00001-of-00002.safetensors", "model-0.bin"]
    wanted = hub.wanted_weights(names, {"hf"}, "some/clip")
    assert wanted == names[:2]


def test_repositories_without_a_clip_are_told(online):
    (online.folder / "model.safetensors").unlink()
    refused("some/clip", "'some/clip' has no weights that are read here: model.safetensors")
    (online.folder / "config.json").write_text('{"model_type": "bert"}')
    refused("some/clip", "'some/clip' is no CLIP")


@pytest.mark.parametrize(
    ("failure", "named"),
    [
        (
            errors.RepositoryNotFoundError("404", response=response()),
            "hub has no model 'some/clip'",
        ),
        (errors.GatedRepoError("403", response=response()), "hf auth login"),
        (errors.RevisionNotFoundError("404", response=response()), "no revision 'v9'"),
        (ConnectionError("no route\nto host"), "cannot be reached (no route); go online"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(online, failure, named):
    online.failure = failure
    refused("some/clip@v9", named)


def test_a_near_miss_is_suggested(online):
    online.failure = errors.RepositoryNotFoundError("404", response=response())
    refused("openai/clip-vit-base-patch23", "did you mean openai/clip-vit-base-patch32?")


def test_without_a_network_the_cache_does(online, monkeypatch):
    online.failure = ConnectionError("no route")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(online.folder))
    assert load_clip("some/clip").embed_dim == 20
    # A cache that was filled halfway is no model.
    (online.folder / "model.safetensors").unlink()
    refused("some/clip", "does not hold it whole", "hf download some/clip")


def test_offline_mode_asks_nobody(online, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refused("some/clip@v9", "HF_HUB_OFFLINE is set", "hf download some/clip --revision v9")
    assert online.asked == []
