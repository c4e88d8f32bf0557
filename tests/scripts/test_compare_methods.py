"""The comparison of Meta-Probe with the others: what a cell says, and that it goes on."""

import json
import sys

import compare_methods
import jax
import numpy as np
import pytest
from compare_methods import Asked, cell, interval, main, of_pool, table
from task_episodes import Pool

from fsclip_jax.adapters.meta_probe import MetaProbe


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def classes(rng, count, pictures, dim=24):
    text = unit(rng.standard_normal((count, dim)))
    near = np.repeat(text, pictures, axis=0)
    return (
        text,
        unit(near + 0.2 * rng.standard_normal(near.shape)),
        np.arange(count).repeat(pictures),
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    text, features, labels = classes(rng, 9, 7)
    stored = {"features": features, "text_features": text, "labels": labels}
    np.savez(tmp_path / "imagenet_vitb32.npz", **stored)
    text, features, labels = classes(rng, 67, 18)
    split = np.where(np.arange(len(labels)) % 18 < 16, "train", "val")
    stored = {"features": features, "text_features": text, "labels": labels, "split": split}
    np.savez(tmp_path / "caltech67_vitb32.npz", **stored)
    text, features, labels = classes(rng, 8, 6)
    rows = [[np.array([row]) for row in np.flatnonzero(labels == each)] for each in range(8)]
    pool = Pool(features, text, rows, [np.arange(8)], text @ text.T, 30.0)
    groups = {"development": {"terriers": np.arange(4), "insects": np.arange(4, 8)}}
    monkeypatch.setattr(compare_methods, "GROUPS", groups)
    monkeypatch.setattr(compare_methods, "SHOTS", (1,))
    monkeypatch.setattr(compare_methods, "CALTECH_SHOTS", (1, 16))
    monkeypatch.setattr(compare_methods, "emoji", lambda *_: pool)
    return tmp_path


def test_a_cell_has_the_mean_and_both_intervals():
    """Student's t for two values is 12.706, for three 4.303."""
    assert interval([1.0, 3.0]) == pytest.approx(12.706, abs=1e-3)
    assert interval([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5, abs=1e-3)
    seeds = [np.array([1.0, 1.0]), np.array([2.0, 2.0]), np.array([2.0, 4.0])]
    assert cell(np.array([1.0, 3.0]), seeds) == "+2.0 ±12.7/2.5"
    assert cell(np.array([-1.0]), []) == "-1.0"


def test_every_column_names_its_own_best():
    asked = [Asked("birds", 1, None), Asked("birds", 2, None)]
    ours = {"birds 1": np.array([50.0, 52.0]), "birds 2": np.array([60.0, 62.0])}
    others = {
        "zero_shot": {"birds 1": np.array([49.0, 51.0]), "birds 2": np.array([49.0, 51.0])},
        "gda": {"birds 1": np.array([48.0, 49.0]), "birds 2": np.array([61.0, 63.0])},
    }
    assert table(asked, ours, [], others).splitlines()[-1] == (
        "|birds 1, 2|+1.0 ±0.0, +11.0 ±0.0|+1.0 ±0.0, -1.0 ±0.0|`zero_shot`, `gda`|"
    )


def test_shots_are_never_asked():
    rng = np.random.default_rng(1)
    text, features, labels = classes(rng, 9, 7)
    rows = [[np.array([row]) for row in np.flatnonzero(labels == each)] for each in range(9)]
    pool = Pool(features, text, rows, [np.arange(9)], text @ text.T, 100.0)
    column = of_pool(pool, np.arange(9), way=5, shots=4, draws=3, seed=(0,))
    assert column.support.shape == (3, 5, 4, 24)
    assert column.query.shape == (3, 15, 24)
    assert np.einsum("dwkf,dqf->dwkq", column.support, column.query).max() < 0.9999
    nearest = np.einsum("dqf,dwf->dqw", column.query, column.text).argmax(-1)
    assert np.mean(nearest == column.labels) > 0.9


def test_a_run_prints_every_kind_and_the_next_goes_on(folder, monkeypatch, capsys):
    numbers = MetaProbe().init(jax.random.key(0), 24)
    learned = [jax.tree.map(lambda x: x.tolist(), numbers)] * 3
    (folder / "learned.json").write_text(json.dumps(learned))
    given = ["", "--features", folder, "--workdir", folder / "scores", "--draws", 2]
    given += ["--methods", "prototype", "timo", "--learned", folder / "learned.json"]
    monkeypatch.setattr(sys, "argv", [str(each) for each in given])
    main()
    first = capsys.readouterr().out
    for row in ("|terriers 1|", "|emoji 1|", "|Caltech 1, 16|"):
        assert row in first
    assert "/0.0," in first
    scores = json.loads((folder / "scores" / "development" / "prototype.json").read_text())
    assert len(scores["insects 1"]) == 2
    main()
    assert capsys.readouterr().out == first[first.index("|shots|") :]
