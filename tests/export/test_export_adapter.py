"""The adapter by itself: weights under the published names, and programs of any shape."""

import errno
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from fsclip_jax.adapters.base import fits_any_shape, needs_of
from fsclip_jax.adapters.catalog import ADAPTERS, example_task, get_adapter
from fsclip_jax.adapters.checkpoint import restore_adapter, save_adapter
from fsclip_jax.cli.main import main
from fsclip_jax.durable import new_folder
from fsclip_jax.errors import UserError
from fsclip_jax.export.stablehlo import PLATFORMS, as_stored, export_adapter
from fsclip_jax.report.card import sums

DIM = 16
META = {"backbone": "mini", "dim": DIM, "data": {"spec": "emoji"}, "step": 7, "val_accuracy": 61.5}


@pytest.fixture
def workdir(tmp_path):
    adapter = get_adapter("meta_adapter", heads=2)
    params = adapter.init(jax.random.key(0), DIM)
    save_adapter(tmp_path / "run", "meta_adapter", params, META, adapter=adapter)
    return tmp_path / "run"


def loaded(data):
    return export.deserialize(bytearray(data))


ANY_SHAPE = [name for name in ADAPTERS if fits_any_shape(get_adapter(name))]


def called(program, task, query):
    return np.asarray(
        program.call(task.text, task.support, task.support_mask, query.features, task.logit_scale)
    )


@pytest.mark.parametrize("name", ANY_SHAPE)
def test_one_program_answers_as_the_method_does_at_any_size(name):
    adapter = get_adapter(name)
    params = adapter.init(jax.random.key(0), DIM)
    program = loaded(export_adapter(adapter, params, DIM))
    assert program.platforms == PLATFORMS
    for way, shot, queries in ((2, 1, 1), (5, 3, 7)):
        task, query = example_task(way, shot, queries, DIM)
        if shot > 1:
            task = task._replace(support_mask=task.support_mask.at[1, -1].set(False))
            task = task._replace(support=task.support * task.support_mask[..., None])
        state = adapter.fit(params, task, jax.random.key(0))
        expected = np.asarray(adapter.logits(state, query.features))
        np.testing.assert_allclose(called(program, task, query), expected, rtol=2e-3, atol=2e-3)


def test_every_other_method_is_refused_with_the_reason():
    for name in sorted(set(ADAPTERS) - set(ANY_SHAPE)):
        adapter = get_adapter(name)
        reason = "needs" if needs_of(adapter) else "fits by steps"
        with pytest.raises(UserError, match=f"^{name} {reason} .*--support DIR") as caught:
            export_adapter(adapter, adapter.init(jax.random.key(0), DIM), DIM)
        assert "\n" not in str(caught.value)


def test_a_checkpoint_becomes_a_program_with_a_card(workdir, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["export", "--checkpoint", str(workdir), "--format", "stablehlo", "--out", str(out)]
    assert main(words) == 0
    assert "adapter.stablehlo" in capsys.readouterr().out
    adapter, params, _ = restore_adapter(workdir)
    task, query = example_task(4, 2, 3, DIM)
    program = loaded((out / "adapter.stablehlo").read_bytes())
    expected = adapter.logits(adapter.fit(params, task, jax.random.key(0)), query.features)
    np.testing.assert_allclose(called(program, task, query), expected, rtol=1e-4, atol=1e-4)
    card = (out / "README.md").read_text()
    for told in ("meta_adapter", "emoji", "CC-BY-4.0", "61.5", "'heads': 2", "Not measured"):
        assert told in card
    listed = sums(out)
    del listed["README.md"]
    assert all(f"| `{name}` | `{sum_}` |" in card for name, sum_ in listed.items())
    about = json.loads((out / "adapter.json").read_text())
    assert about["dim"] == DIM
    assert f"none released after {about['promised_until']}" in card


def test_a_card_tells_what_was_measured(workdir, tmp_path):
    row = {"method": "meta_adapter", "shots": 4, "split": "novel"}
    row["accuracy"] = {"mean": 51.25, "ci95": 1.5, "per_seed": [50, 52.5]}
    report = {"schema": 1, "fsclip_version": "1", "command": "fsclip eval a|b", "device": "cpu"}
    report |= {"protocol": "p", "label_space": "l", "backbone": {}, "rows": [row]}
    report["data"] = {"spec": "emoji", "n_classes": 2, "n_query": 2}
    (workdir / "report.json").write_text(json.dumps(report))
    assert main(["export", "--checkpoint", str(workdir), "--out", str(tmp_path / "out")]) == 0
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| 4 | novel | 51.2 ±1.5 |" in card
    assert r"fsclip eval a\|b" in card
    (workdir / "report.json").write_text("{")
    assert main(["export", "--checkpoint", str(workdir), "--out", str(tmp_path / "more")]) == 0
    assert "Not measured" in (tmp_path / "more" / "README.md").read_text()


def test_weights_come_back_here_and_in_pytorch(workdir, tmp_path):
    torch = pytest.importorskip("torch")
    _, params, meta = restore_adapter(workdir)
    places = {}
    for kind in ("safetensors", "torch-names"):
        places[kind] = tmp_path / kind
        words = ["export", "--checkpoint", str(workdir), "--format", kind]
        assert main([*words, "--out", str(places[kind])]) == 0
    adapter, again, told = restore_adapter(places["safetensors"])
    assert adapter == get_adapter("meta_adapter", heads=2)
    assert told == meta
    jax.tree.map(np.testing.assert_array_equal, params, again)
    file = places["torch-names"] / "adapter.pt"
    jax.tree.map(np.testing.assert_array_equal, params, restore_adapter(file)[1])
    tensors = torch.load(file, weights_only=True)
    assert set(tensors) == {f"{n}_proj.weight" for n in ("q", "k", "alpha")} | {"alpha_proj.bias"}
    weight = params["k_proj"]["weight"]
    np.testing.assert_array_equal(tensors["k_proj.weight"].numpy(), weight)


def test_what_a_user_gets_wrong_is_one_line_and_leaves_nothing(workdir, tmp_path, capsys):
    there = tmp_path / "there"
    there.mkdir()
    out = ["--out", str(tmp_path / "out")]
    checkpoint = ["--checkpoint", str(workdir)]
    wrong = {
        "exists already": [*checkpoint, "--out", str(there)],
        "needs --checkpoint": out,
        "goes with --format stablehlo": [*checkpoint, *out, "--support", "x"],
        "say what": [*out, "--format", "stablehlo"],
        "no checkpoint at": [*out, "--checkpoint", str(tmp_path / "none")],
        "is of meta_adapter, not of ridge": [
            *(*checkpoint, *out, "--format", "stablehlo", "--method", "ridge")
        ],
        "give --checkpoint": [*out, "--format", "stablehlo", "--method", "meta_adapter"],
        "fits by steps": [*out, "--format", "stablehlo", "--method", "linear_probe"],
        "needs words": [*out, "--format", "stablehlo", "--method", "coop"],
        "did you mean ridge": [*out, "--format", "stablehlo", "--method", "rigde"],
    }
    for says, flags in wrong.items():
        assert main(["export", *flags]) == 2
        told = capsys.readouterr().err.strip().splitlines()
        assert len(told) == 1
        assert says in told[0], told
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "there"]
    assert not list(there.iterdir())


def test_a_full_disk_leaves_nothing(workdir, tmp_path, monkeypatch, capsys):
    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    before = sorted(tmp_path.iterdir())
    assert main(["export", "--checkpoint", str(workdir), "--out", str(tmp_path / "out")]) == 2
    assert "no space left to write" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_is_whole_or_not_there(tmp_path):
    def fail():
        with new_folder(tmp_path / "a") as folder:
            (folder / "half").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.iterdir())

    # Somebody else is quicker: theirs stays.
    def late():
        with new_folder(tmp_path / "b") as folder:
            (folder / "ours").write_text("ours")
            (tmp_path / "b").mkdir()
            (tmp_path / "b" / "theirs").write_text("theirs")

    with pytest.raises(UserError, match="cannot write"):
        late()
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b" / "theirs").read_text() == "theirs"


def test_features_are_rounded_as_a_bank_rounds_them():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(64, 512)).astype(np.float32)
    features[:, ::2] *= 1e-4  # many below what float16 holds with all its digits
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    stored = features.astype(np.float16).astype(np.float32)
    stored /= np.linalg.norm(stored, axis=-1, keepdims=True)
    rounded = np.asarray(jax.jit(as_stored)(jnp.asarray(features)))
    np.testing.assert_allclose(rounded, stored, rtol=3e-7)
    assert np.abs(rounded - features).max() > 1e-5
