"""Classifiers and adapters to the hub and back, beside a stand-in of it on this machine."""

import json
import os
import re
import subprocess
import sys

import hub_server
import huggingface_hub
import jax
import numpy as np
import pytest
import yaml
from huggingface_hub import constants

from fsclip_jax import Checkpoint, FewShotClassifier
from fsclip_jax.adapters.catalog import get_adapter
from fsclip_jax.adapters.checkpoint import save_adapter
from fsclip_jax.cli.main import main
from fsclip_jax.clip.load import find_model, load_clip
from fsclip_jax.errors import UserError

# Of huggingface_hub, where it uploads a file in one part.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

DIM = 16
NAMES = ("cat", "dog", "eel")


def task(names=NAMES):
    rng = np.random.default_rng(0)
    numbers = np.arange(12) % len(names)
    return rng.normal(size=(12, DIM)) + 2 * np.eye(DIM)[numbers], np.array(names)[numbers]


def fitted(names=NAMES, **settings):
    return FewShotClassifier(backbone=None, **{"method": "prototype", **settings}).fit(*task(names))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with hub_server.hub_server() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no_token"))
        monkeypatch.setenv("HF_TOKEN", hub_server.TOKEN)
        yield server
        huggingface_hub.close_session()


def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def add(hub, name, files):
    """Put files into a repository beside those that it has."""
    found = hub.repositories.setdefault(name, hub_server.repository())
    found.commits[found.branches["main"]] |= files


def test_a_classifier_comes_back_to_the_bit_and_nothing_else_does(hub, monkeypatch):
    made = fitted(method="linear_probe")
    address = made.push_to_hub("me/birds")
    assert address.startswith(f"{hub.url}/me/birds/commit/")
    add(hub, "me/birds", {"evil.py": b"1 / 0", "pytorch_model.bin": b"x", "config.json": b"{}"})
    X, _ = task()
    read = FewShotClassifier.from_pretrained("me/birds")
    np.testing.assert_array_equal(read.predict_proba(X), made.predict_proba(X))
    assert read.get_params() == made.get_params()
    fetched = {path.rpartition("/")[2] for _, path in hub.asked if "/resolve/" in path}
    assert fetched == {"adapter.safetensors", "classifier.safetensors", "classifier.json"}
    offline(monkeypatch)
    again = FewShotClassifier.from_pretrained("me/birds")
    np.testing.assert_array_equal(again.predict_proba(X), made.predict_proba(X))
    assert again.partial_fit(X[:1], ["fox"]).classes_.tolist() == [*NAMES, "fox"]


@pytest.mark.slow
def test_another_process_reads_what_is_in_the_cache_without_a_network(hub, tmp_path):
    made = fitted()
    made.push_to_hub("me/birds")
    FewShotClassifier.from_pretrained("me/birds")
    np.save(tmp_path / "x.npy", task()[0])
    np.save(tmp_path / "expected.npy", made.predict_proba(task()[0]))
    lines = (
        "import numpy as np\nfrom fsclip_jax import FewShotClassifier\n"
        "read = FewShotClassifier.from_pretrained('me/birds')\n"
        "assert (read.predict_proba(np.load('x.npy')) == np.load('expected.npy')).all()\n"
    )
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache")}
    env |= {"PYTHONPATH": os.pathsep.join(sys.path), "HF_ENDPOINT": hub.url}
    before = len(hub.asked)
    subprocess.run([sys.executable, "-c", lines], env=env, cwd=tmp_path, check=True, timeout=120)
    assert len(hub.asked) == before


@pytest.mark.usefixtures("hub")
def test_revisions_are_kept_apart():
    fitted().push_to_hub("me/birds", revision="v2")
    assert FewShotClassifier.from_pretrained("me/birds", revision="v2").classes_.tolist()
    assert FewShotClassifier.from_pretrained("me/birds@v2").classes_.tolist()
    with pytest.raises(UserError, match="'me/birds' holds no saved classifier: it lacks adapter"):
        FewShotClassifier.from_pretrained("me/birds")
    fitted(("a", "b", "c")).push_to_hub("me/birds", revision="v2")  # what is there is replaced
    read = FewShotClassifier.from_pretrained("me/birds", revision="v2")
    assert read.classes_.tolist() == ["a", "b", "c"]


def test_a_private_repository_is_for_its_owner(hub, monkeypatch):
    fitted().push_to_hub("me/secret", private=True)
    assert hub.repositories["me/secret"].private
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match=r"no model 'me/secret', or not for you; .*`hf auth login`"):
        FewShotClassifier.from_pretrained("me/secret")
    assert FewShotClassifier.from_pretrained("me/secret", token=hub_server.TOKEN)


@pytest.fixture
def adapter(tmp_path):
    """A trained adapter in its workdir."""
    made = get_adapter("meta_adapter")
    meta = {"backbone": "unknown", "dim": DIM, "data": {"spec": "emoji"}, "val_accuracy": 61.5}
    place = tmp_path / "private" / "run"
    save_adapter(place, "meta_adapter", made.init(jax.random.key(0), DIM), meta, adapter=made)
    return place


def test_an_adapter_goes_there_and_is_used_by_its_name(hub, adapter, tmp_path):
    Checkpoint.from_pretrained(adapter).push_to_hub("me/meta")
    add(hub, "me/meta", {"modeling.py": b"1 / 0", "optimizer.pt": b"x"})
    mine, theirs = Checkpoint.from_pretrained(adapter), Checkpoint.from_pretrained("me/meta")
    jax.tree.map(np.testing.assert_array_equal, mine.params, theirs.params)
    assert (theirs.adapter, theirs.meta) == (mine.adapter, mine.meta)
    assert {path.rpartition("/")[2] for _, path in hub.asked if "/resolve/" in path} == {
        "adapter.safetensors"
    }
    X, y = task()
    by_name = FewShotClassifier("meta_adapter", None, checkpoint="me/meta").fit(X, y)
    by_place = FewShotClassifier("meta_adapter", None, checkpoint=adapter).fit(X, y)
    np.testing.assert_array_equal(by_name.predict_proba(X), by_place.predict_proba(X))
    out = tmp_path / "out"
    assert main(["export", "--checkpoint", "me/meta@main", "--out", str(out)]) == 0
    files = hub.repositories["me/meta"].commits[hub.repositories["me/meta"].branches["main"]]
    assert (out / "adapter.safetensors").read_bytes() == files["adapter.safetensors"]
    front = yaml.safe_load(files["README.md"].decode().split("---\n")[1])
    assert front["pipeline_tag"] == "zero-shot-image-classification"
    assert "61.5" in files["README.md"].decode()


def test_a_folder_of_that_name_wins(hub, tmp_path, monkeypatch, capsys):
    (tmp_path / "private").mkdir()
    monkeypatch.chdir(tmp_path)
    fitted().save("me/birds")
    assert FewShotClassifier.from_pretrained("me/birds").classes_.tolist() == list(NAMES)
    words = ["export", "--checkpoint", "private/rum", "--out", "out"]
    assert main(words) == 2  # beside other runs of one's own it is a slip
    assert "no checkpoint at private/rum; give the workdir" in capsys.readouterr().err
    assert hub.asked == []
    with pytest.raises(UserError, match="which has no revisions"):
        FewShotClassifier.from_pretrained("me/birds", revision="main")


def test_a_classifier_with_an_adapter_of_ones_own_goes_on_elsewhere(hub, adapter, tmp_path):
    X, y = task()
    made = FewShotClassifier("meta_adapter", None, checkpoint=adapter).fit(X, y)
    made.push_to_hub("me/birds")
    commits = hub.repositories["me/birds"].commits
    files = commits[hub.repositories["me/birds"].branches["main"]]
    assert not [name for name in files if str(tmp_path).encode() in files[name]]
    (adapter / "adapter.safetensors").unlink()
    adapter.rename(tmp_path / "gone")
    read = FewShotClassifier.from_pretrained("me/birds")
    np.testing.assert_array_equal(read.predict_proba(X), made.predict_proba(X))
    read.partial_fit(X[:2], y[:2])
    assert read.fitted_.method.name == "meta_adapter"


def test_a_clip_that_was_fetched_in_part_is_read_without_a_network(hub, monkeypatch):
    files = {file.name: file.read_bytes() for file in find_model("mini").iterdir()}
    add(hub, "other/clip", {**files, "tf_model.h5": b"x", "README.md": b"# A CLIP"})
    online = load_clip("other/clip")
    offline(monkeypatch)
    assert load_clip("other/clip").sha256 == online.sha256
    assert not any("tf_model" in path for _, path in hub.asked)


def read(name, **more):
    return lambda: FewShotClassifier.from_pretrained(name, **more)


def no_network(monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("change", "act", "said"),
    [
        (None, read("me/none"), "has no model 'me/none', or not for you"),
        (None, read("other/kind"), "'other/kind' holds no saved classifier: it lacks adapter.safe"),
        (None, read("other/gated", token="no"), "only given to who has accepted its terms"),
        (None, read("other/kind", revision="v9"), "'other/kind' has no revision 'v9'"),
        (None, read("other/kind@v9"), "'other/kind' has no revision 'v9'"),
        (None, read("other/kind@v9", revision="v8"), "with one revision at most"),
        (None, read("nowhere"), "no saved classifier at nowhere; give a folder, or OWNER/NAME"),
        (None, read("a/b/c"), "no saved classifier at a/b/c; give a folder, or OWNER/NAME"),
        (None, read("other/half"), "is no saved classifier"),
        (no_network, read("me/none"), "the hub cannot be reached ("),
        (offline, read("me/none"), "HF_HUB_OFFLINE is set; unset it, or run `hf download me/none`"),
    ],
)
def test_what_cannot_be_read_is_one_line(hub, monkeypatch, change, act, said):
    add(hub, "other/kind", {"config.json": b"{}", "model.safetensors": b"x"})
    hub.repositories["other/gated"] = hub_server.repository(gated=True)
    files = ("adapter.safetensors", "classifier.safetensors", "classifier.json")
    add(hub, "other/half", dict.fromkeys(files, b"[]"))
    if change is not None:
        change(monkeypatch)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        act()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "to", "said"),
    [
        (None, "birds", "repo_id is 'birds'; give OWNER/NAME"),
        (None, "me/birds@v2", "repo_id is 'me/birds@v2'; give OWNER/NAME, and a branch as"),
        (None, "other/birds", "'other/birds' could not be pushed: the hub refuses it ("),
        (no_network, "me/birds", "'me/birds' could not be pushed: the hub cannot be reached ("),
        (offline, "me/birds", "HF_HUB_OFFLINE is set, so nothing can be pushed"),
        (lambda patch: patch.delenv("HF_TOKEN"), "me/birds", "pushing needs a token of the hub"),
        (lambda patch: patch.setenv("HF_TOKEN", "hf_old"), "me/birds", "with a token that may"),
    ],
)
def test_what_cannot_be_pushed_is_one_line(hub, monkeypatch, change, to, said):
    made = fitted()
    if change is not None:
        change(monkeypatch)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        made.push_to_hub(to)
    assert "\n" not in str(caught.value)
    assert hub.repositories == {}


def test_no_name_of_a_class_spoils_the_card(hub):
    names = ("---\nlicense: mit\n---", "<img src=x onerror=alert(1)> | `a` {{ 7 }}", "‮[x](y)\x1b")
    fitted(names).push_to_hub("me/odd")
    repository = hub.repositories["me/odd"]
    card = repository.commits[repository.branches["main"]]["README.md"].decode()
    front = yaml.safe_load(card.split("---\n")[1])
    assert "license" not in front
    assert front["model-index"][0]["results"][0]["metrics"][0]["args"]["pictures"] == 12
    body = card.split("---\n", 2)[2]
    assert "---\nlicense" not in body
    assert "<img" not in body.replace("\\<", "")
    assert "\\<img src=x onerror=alert(1)\\> \\| \\`a\\` {{ 7 }}" in body
    assert "\\\\u202e\\[x\\](y)\\\\x1b" in body
    assert FewShotClassifier.from_pretrained("me/odd").classes_.tolist() == sorted(names)


def test_a_card_says_how_good_a_classifier_is_on_what(hub):
    made = fitted(method="auto")
    made.push_to_hub("me/birds")
    repository = hub.repositories["me/birds"]
    files = repository.commits[repository.branches["main"]]
    card, about = files["README.md"].decode(), json.loads(files["classifier.json"])
    score = made.fitted_.quality.held_out.score
    for said in (
        f"{score.right} of 12, {score.accuracy:.1f} % ({score.low:.1f} to {score.high:.1f})",
        f"| method | {made.fitted_.method.name} |",
        "| classes | cat, dog, eel |",
        f"| temperature | {about['temperature'][0]:.4f} |",
        f"| unknown | a score below {made.fitted_.familiar.threshold:.3f};",
        "FewShotClassifier.from_pretrained(",
        "- Labelled pictures: the maker's own;",
    ):
        assert said in card, said
