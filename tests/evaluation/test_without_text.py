"""A backbone without text, from pictures to a report: what runs, and what says that it cannot."""

import json

import numpy as np
import pytest
from PIL import Image

from fsclip_jax.adapters.base import runs_without_text
from fsclip_jax.adapters.catalog import ADAPTERS, example_task, get_adapter
from fsclip_jax.cli.main import main
from fsclip_jax.clip.config import ClipConfig, Dinov2Config
from fsclip_jax.clip.dinov2 import DINOV2
from fsclip_jax.clip.model import init_clip
from fsclip_jax.clip.save import save_clip
from fsclip_jax.features.store import open_bank
from fsclip_jax.prediction.estimator import FewShotClassifier
from fsclip_jax.report.rows import read_report

FREE = ("prototype", "ridge", "gda")
SAID = "has no text, which all methods but prototype, ridge, gda need"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny DINOv2 and pictures of three colours."""
    folder = tmp_path_factory.mktemp("towers")
    config = ClipConfig(Dinov2Config(28, 14, 24, 2, 3, 96), None)
    _, state = init_clip(config, 0)
    save_clip("hf", folder / "dino", config, state, DINOV2.preprocess.__class__(28, edge=32))
    rng = np.random.default_rng(0)
    for name, colour in {
        "red": (200, 30, 30),
        "green": (30, 200, 30),
        "blue": (30, 30, 200),
    }.items():
        (folder / "pictures" / name).mkdir(parents=True)
        for index in range(8):
            noise = rng.integers(-25, 25, (40, 30, 3))
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{index}.png")
    return folder


def run(line, capsys, *, code=0):
    capsys.readouterr()
    assert main(line.split()) == code
    out, err = capsys.readouterr()
    if code:
        told = [each for each in err.splitlines() if not each.startswith("extract ")]
        assert len(told) == 1, err
        assert told[0].startswith("fsclip: error: ")
    return out + err


@pytest.fixture(scope="module")
def bank(place):
    out = place / "bank"
    images = ["--data", f"folder:{place / 'pictures'}", "--backbone", str(place / "dino")]
    assert main(["extract", *images, "--out", str(out)]) == 0
    return out


@pytest.fixture(autouse=True)
def there(place, bank, monkeypatch):
    assert bank.is_dir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("FSCLIP_CACHE", str(place / "cache"))


def test_a_bank_holds_no_text(bank, capsys):
    stored = open_bank(bank, verify=True)
    assert stored.text_features is None
    assert stored.dim == 24
    assert stored.manifest["templates"] == []
    assert stored.manifest["format_version"] == 2
    assert not (bank / "text.safetensors").exists()
    said = run("bank show bank --verify", capsys)
    assert said.count("none: no text") == 3
    assert "1 shard(s), " in said
    assert "logit scale" in said


def test_a_bank_that_lost_its_text_is_damaged(bank, tmp_path, capsys):
    for change, said in (
        ({"format_version": 1}, "does not list"),
        ({"format_version": 4}, "1 to 3"),
    ):
        values = json.loads((bank / "manifest.json").read_text()) | change
        other = tmp_path / f"bank{change['format_version']}"
        other.mkdir()
        for file in bank.iterdir():
            (other / file.name).write_bytes(file.read_bytes())
        (other / "manifest.json").write_text(json.dumps(values))
        assert said in run(f"bank show {other}", capsys, code=2)


def test_all_takes_the_methods_that_need_none(tmp_path, capsys):
    line = "eval --data bank:bank --methods all --protocol full_way --shots 1 2 --seeds 2"
    said = run(f"{line} --out {tmp_path}", capsys)
    assert " ".join(said.split()).count(SAID) == 1
    report = read_report(tmp_path)
    assert {row.method for row in report.rows} == set(FREE)
    assert all(row.metrics["accuracy"].mean > 90 for row in report.rows)
    chosen = {row.method: row.selection for row in report.rows}
    assert chosen["gda"]["rule"] == "fixed where there is no text"
    assert "penalty" in chosen["ridge"]
    assert len(report.settings["left_out"]) == len(ADAPTERS) - len(FREE)
    page = (tmp_path / "report.html").read_text()
    assert "prototype" in page
    run(f"report {tmp_path} --out {tmp_path / 'again'}", capsys)


@pytest.mark.parametrize(
    "line",
    [
        "eval --data bank:bank",
        "eval --data bank:bank --methods gda tip_adapter",
        "predict --support pictures --images pictures/red --backbone dino --method tip_adapter",
        "export --support pictures --backbone dino --method clap --format stablehlo",
        "export --backbone dino --method zero_shot --format stablehlo",
        "train --data bank:bank --steps 2",
        "eval --data bank:bank --as-published tip_adapter_f",
    ],
)
def test_what_reads_text_is_refused_in_a_line(line, tmp_path, capsys):
    out = "--workdir" if line.startswith("train") else "--out"
    name = "out.csv" if line.startswith("predict") else "out"
    said = run(f"{line} {out} {tmp_path / name}", capsys, code=2)
    assert SAID in said
    assert "dino" in said
    assert "give --methods all" in said or "--methods" not in said


def test_easy_classes_need_text(tmp_path, capsys):
    line = "eval --data bank:bank --protocol cross_category --class-split easy_hard --methods ridge"
    assert "told by zero-shot" in run(f"{line} --out {tmp_path}", capsys, code=2)


def test_flags_for_prompts_change_nothing_in_a_note(tmp_path, capsys):
    line = f"extract --data folder:pictures --backbone dino --templates ensemble --out {tmp_path}/b"
    said = run(line, capsys)
    assert "dino is an image tower without text: --templates changes nothing" in said


def test_pictures_are_classified(tmp_path, capsys):
    table = tmp_path / "found.csv"
    said = run(
        f"predict --support pictures --images pictures/red --backbone dino --out {table}", capsys
    )
    assert "ridge on dino: 3 classes" in said
    lines = table.read_text().splitlines()[1:]
    assert len(lines) == 8
    assert all(line.split(",")[1] == "red" for line in lines)


def test_a_classifier_is_exported(tmp_path, capsys):
    out = tmp_path / "program"
    run(
        f"export --support pictures --backbone dino --method gda --format stablehlo --out {out}",
        capsys,
    )
    about = json.loads((out / "classifier.json").read_text())
    assert (about["edge"], about["image_size"], about["method"]) == (32, 28, "gda")
    line = f"export --backbone dino --method gda --format stablehlo --out {tmp_path / 'method'}"
    run(line, capsys)
    assert json.loads((tmp_path / "method" / "adapter.json").read_text())["dim"] == 24


def test_the_estimator_takes_the_tower(place):
    ready = FewShotClassifier.from_folder("pictures", backbone="dino")
    assert ready.predict("pictures/blue").tolist() == ["blue"] * 8
    features = open_bank(place / "bank")
    fitted = FewShotClassifier("gda", backbone="dino").fit(features.features[0], features.labels)
    assert (fitted.predict(features.features[0]) == features.labels).all()
    with pytest.raises(Exception, match=SAID):
        FewShotClassifier("linear_probe", backbone="dino").fit(
            features.features[0], features.labels
        )


def test_a_suite_leaves_out_what_reads_text(tmp_path, capsys):
    line = "suite --data bank:bank --shots 2 --seeds 2 --protocol full_way --out"
    said = run(f"{line} {tmp_path}", capsys)
    assert "2 done (0 by an earlier run), 0 failed, 5 left out" in said


@pytest.mark.parametrize("name", FREE)
def test_methods_without_text_are_their_equations(name):
    import jax
    import jax.numpy as jnp

    task, query = example_task(way=4, shot=3)
    task = task._replace(text=jnp.zeros_like(task.text))
    adapter = get_adapter(name)
    assert runs_without_text(adapter)
    params = adapter.init(jax.random.key(0), 8) | dict(adapter.without_text)
    ours = adapter.logits(adapter.fit(params, task, jax.random.key(0)), query.features)
    x, q = np.asarray(task.support, np.float64), np.asarray(query.features, np.float64)
    means, flat = x.mean(1), x.reshape(-1, 8)
    if name == "prototype":
        weights, bias = 100 * means / np.linalg.norm(means, axis=-1, keepdims=True), 0
    elif name == "ridge":
        labels, centred = np.repeat(np.eye(4), 3, 0), flat - flat.mean(0)
        gram = centred.T @ centred + 0.1 * np.eye(8)
        weights = 100 * np.linalg.solve(gram, centred.T @ (labels - 0.25)).T
        bias = 25 - weights @ flat.mean(0)
    else:
        scatter = (x - means[:, None]).reshape(-1, 8)
        covariance = scatter.T @ scatter / 11
        precision = np.linalg.inv(covariance + np.trace(covariance) / 11 * np.eye(8))
        weights = 0.1 * (means - means.mean(0)) @ precision
        bias = -0.5 * ((means + means.mean(0)) * weights).sum(-1)
    np.testing.assert_allclose(ours, q @ weights.T + bias, rtol=1e-3, atol=1e-3)
