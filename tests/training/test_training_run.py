import dataclasses
import itertools
import json
import shutil

import jax
import numpy as np
import pytest

from fsclip_jax.adapters.checkpoint import load_adapter
from fsclip_jax.errors import UserError
from fsclip_jax.training.loop import Observer, dispatch_end
from fsclip_jax.training.metrics_log import read_metrics
from fsclip_jax.training.run import train
from fsclip_jax.training.workdir import locked


def final_params(workdir):
    return load_adapter(workdir)[1]


def assert_same_bits(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def rows(workdir):
    return read_metrics(workdir / "metrics.jsonl")


def untimed(workdir):
    dropped = ("time", "episodes_per_second")
    return [{k: v for k, v in row.items() if k not in dropped} for row in rows(workdir)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory, stored, recipe):
    """A run from beginning to end, and its outcome."""
    config = dataclasses.replace(recipe, learning_rate=3e-2)
    workdir = tmp_path_factory.mktemp("finished")
    return config, workdir, train(config, workdir, lambda: stored)


def test_a_run_leaves_log_checkpoints_config_and_adapter(finished, stored):
    _, workdir, outcome = finished
    log = rows(workdir)
    assert [row["step"] for row in log] == [0, 2, 4, 6, 8, 10, 12]
    assert set(log[0]) == {"step", "time", "val_accuracy", "val_zero_shot", "val_text_prototype"}
    numbers = {"step", "time", "loss", "accuracy", "lr", "grad_norm", "episodes_per_second"}
    assert all(numbers <= set(row) for row in log[1:])
    assert [row["step"] for row in log if "val_accuracy" in row] == [0, 4, 8, 12]

    best = max((row for row in log if "val_accuracy" in row), key=lambda row: row["val_accuracy"])
    assert (outcome.best_step, outcome.step) == (best["step"], 12)
    assert outcome.val_accuracy == pytest.approx(best["val_accuracy"], abs=1e-4)
    assert outcome.references["zero_shot"] == pytest.approx(log[0]["val_zero_shot"])

    name, params, meta = load_adapter(workdir, dim=stored.dim)
    assert name == "meta_adapter"
    assert params["q_proj"]["weight"].shape == (16, 16)
    assert (meta["step"], meta["dim"]) == (best["step"], 16)
    assert meta["config"] == {"heads": 1, "text_in_keys": True}
    assert json.loads((workdir / "config.json").read_text())["config"]["way"] == 5
    assert (workdir / f"checkpoints/best/{best['step']}").is_dir()
    assert (workdir / "checkpoints/last/12").is_dir()


def test_a_finished_run_is_found_done_without_opening_the_data(finished):
    config, workdir, outcome = finished
    (workdir / "adapter.safetensors").unlink()  # as if killed just before the end

    def closed():
        raise AssertionError("the data was opened")

    again = train(config, workdir, closed)
    assert again.was_done
    assert again[:3] == outcome[:3]
    assert load_adapter(workdir)[0] == "meta_adapter"


def test_a_workdir_of_another_config_is_refused_with_the_fields(finished, stored):
    config, workdir, _ = finished
    other = dataclasses.replace(config, way=4, seed=3, resume=True)
    with pytest.raises(UserError, match=r"seed 0 there, 3 now, way 5 there, 4 now"):
        train(other, workdir, lambda: stored)


def stopping(after):
    """Ask for a stop after so many dispatches."""
    calls = itertools.count(1)
    return Observer(stop_requested=lambda: 2 * (next(calls) >= after))


@pytest.fixture(scope="module")
def stopped(finished, stored, tmp_path_factory):
    """The same run, asked to stop after its third dispatch; --resume begins where nothing is."""
    workdir = tmp_path_factory.mktemp("stopped") / "new"
    config = dataclasses.replace(finished[0], resume=True)
    outcome = train(config, workdir, lambda: stored, stopping(3))
    assert outcome.step == 6
    return workdir


def test_a_stopped_run_continues_bit_for_bit(finished, stopped, stored, tmp_path):
    config, whole, outcome = finished
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    assert not (tmp_path / "adapter.safetensors").exists()
    resumed = train(dataclasses.replace(config, resume=True), tmp_path, lambda: stored)
    assert resumed[:3] == outcome[:3]
    assert_same_bits(final_params(tmp_path), final_params(whole))
    assert untimed(tmp_path) == untimed(whole)


def test_an_unfinished_run_is_not_begun_anew_unasked(finished, stopped, stored):
    with pytest.raises(UserError, match=r"unfinished at step 6 of 12: add --resume"):
        train(finished[0], stopped, lambda: stored)


def test_another_bank_is_not_continued_with(finished, stopped, make_bank):
    config = dataclasses.replace(finished[0], resume=True)
    with pytest.raises(UserError, match="another bank"):
        train(config, stopped, lambda: make_bank(seed=1))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(
    finished, stored, tmp_path
):
    overflowing = dataclasses.replace(stored, logit_scale=3e38)
    with pytest.raises(UserError, match=r"not finite at step 1 \(no checkpoint .*learning-rate"):
        train(finished[0], tmp_path, lambda: overflowing)


def test_two_runs_do_not_share_a_workdir(finished, stored, tmp_path):
    with locked(tmp_path), pytest.raises(UserError, match=r"another run .* is training in"):
        train(finished[0], tmp_path, lambda: stored)
    with locked(tmp_path):
        pass  # free again


def test_a_config_of_something_else_is_not_overwritten(finished, stored, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(UserError, match="not of a training run"):
        train(finished[0], tmp_path, lambda: stored)
    assert "clip" in (tmp_path / "config.json").read_text()


def test_a_method_with_nothing_to_learn_is_refused(finished, stored, tmp_path):
    config = dataclasses.replace(finished[0], method="zero_shot")
    with pytest.raises(UserError, match="nothing to learn"):
        train(config, tmp_path, lambda: stored)


def test_dispatches_end_at_the_same_steps_wherever_a_run_begins(finished):
    config = dataclasses.replace(
        finished[0], steps=100, steps_per_dispatch=7, eval_every=20, checkpoint_every=15
    )

    def stops(step):
        while step < config.steps:
            step = dispatch_end(step, config)
            yield step

    whole = list(stops(0))
    assert whole[-1] == 100
    assert all(list(stops(step)) == whole[i + 1 :] for i, step in enumerate(whole))
    assert {15, 20, 30, 40, 45} <= set(whole)


def test_where_no_class_is_held_out_the_last_parameters_are_kept(finished, make_bank, tmp_path):
    two = make_bank(classes=2)
    config = dataclasses.replace(finished[0], way=2, steps=4)
    outcome = train(config, tmp_path, lambda: two)
    assert (outcome.best_step, outcome.references) == (4, {})
    assert np.isnan(outcome.val_accuracy)
    assert rows(tmp_path)[0]["val_accuracy"] is None
    assert load_adapter(tmp_path)[2]["val_accuracy"] is None
