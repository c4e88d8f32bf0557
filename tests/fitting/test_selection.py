"""How a setting is chosen: on val, or on shots that are held out."""

import jax
import jax.numpy as jnp
import numpy as np
from synthetic_bank import CLASSES, DIM, synthetic_bank

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.text_prototype import GATES
from fsclip_jax.evaluation import prepare
from fsclip_jax.evaluation.draws import draw_supports
from fsclip_jax.evaluation.label_spaces import Group, LabelSpace
from fsclip_jax.fitting.draws import draws_of
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.fitted import choose_setting, fit_and_predict
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Choice, Val, hold_out, select_held_out, select_on

START = {
    name: get_adapter(name).init(jax.random.key(0), DIM)
    for name in ("text_prototype", "tip_adapter")
}


def predicted(adapter, params, task, query, per_draw=False):
    method, choice = Method(adapter.name, adapter, params), Choice(params, per_draw, {})
    found = fit_and_predict(Engine(), method, choice, task, {"val": query})
    return found.predictions["val"].predicted


def test_the_setting_that_val_likes_best_is_chosen(bank):
    train = bank.select(["train"])
    whole = LabelSpace(np.arange(CLASSES), (Group("test", np.arange(CLASSES)),))
    draws = draw_supports(jax.random.key(1), train, whole, 2, 2)
    val = prepare.queries_of(bank, "val", whole, whole.groups[0])
    adapter = get_adapter("text_prototype")
    choice = select_on(Engine(), adapter, START[adapter.name], Val(draws.task, val, "rule"))
    counts = []
    for gate in GATES:
        params = {"gate": jnp.float32(gate)}
        best = predicted(adapter, params, draws.task, val)
        counts.append((best == np.asarray(val.labels)).sum(1))
    expected = np.asarray(GATES)[np.argmax(counts, axis=0)]
    np.testing.assert_allclose(choice.params["gate"], expected, rtol=1e-6)
    assert choice.record["split"] == "val"


def test_tip_selection_is_at_least_as_good_on_val_as_any_setting_tried(bank):
    train = bank.select(["train"])
    whole = LabelSpace(np.arange(CLASSES), (Group("test", np.arange(CLASSES)),))
    draws = draw_supports(jax.random.key(1), train, whole, 3, 2)
    val = prepare.queries_of(bank, "val", whole, whole.groups[0])
    adapter = get_adapter("tip_adapter")
    choice = select_on(Engine(), adapter, START[adapter.name], Val(draws.task, val, "rule"))

    def counted(params, per_draw):
        found = predicted(adapter, params, draws.task, val, per_draw)
        return (found == np.asarray(val.labels)).sum(1)

    best = counted(choice.params, True)
    for alpha, beta in [(1.0, 5.5), (0.1, 0.1), (3.0, 1.0), (20.0, 30.0)]:
        tried = {"alpha": jnp.float32(alpha), "beta": jnp.float32(beta)}
        assert (best + 1 >= counted(tried, False)).all()


def test_folds_ask_every_shot_once(tmp_path):
    stored = synthetic_bank(tmp_path / "bank", {"train": 6, "test": 1})
    whole = LabelSpace(np.arange(CLASSES), ())
    draws = draw_supports(jax.random.key(0), stored.select(["train"]), whole, 6, 1)
    asked = []
    adapter = get_adapter("text_prototype")

    class Recorder(Engine):
        def run(self, name, function, *args):
            task, query = args[1:]
            assert int(query.mask.sum()) + int(task.support_mask.sum()) == 6 * CLASSES
            asked.append(np.asarray(query.features))
            return super().run(name, function, *args)

    choice = select_held_out(Recorder(), adapter, START["text_prototype"], draws)
    assert choice.record["rule"].endswith("4 of 4 folds")
    together = np.concatenate(asked, axis=1).reshape(-1, DIM)
    everything = np.asarray(draws.plain).reshape(-1, DIM)
    assert sorted(map(tuple, together)) == sorted(map(tuple, everything))


def test_held_out_shots_are_no_longer_in_the_support(bank, tmp_path):
    whole = LabelSpace(np.arange(CLASSES), ())
    draws = draw_supports(jax.random.key(0), bank.select(["train"]), whole, 3, 2)
    task, query = hold_out(draws, np.array([False, True, False]))
    assert task.support_mask.all()
    np.testing.assert_array_equal(task.support, draws.task.support[:, :, [0, 2]])
    np.testing.assert_array_equal(query.features, draws.plain[:, :, 1])
    np.testing.assert_array_equal(query.labels[1], np.arange(CLASSES))

    artists = synthetic_bank(tmp_path / "families", families=2)
    draws = draw_supports(jax.random.key(0), artists.select(["train"]), whole, 6, 2)
    task, query = hold_out(draws, np.arange(6) == 0)
    domains, kept = np.asarray(draws.domains), np.asarray(task.support_mask)
    assert not (kept & (domains == domains[:, :, :1])[:, :, 1:]).any()
    assert np.abs(np.asarray(task.support)[~kept]).sum() == 0
    assert kept.sum() == 2 * CLASSES * 4


def test_no_more_folds_than_a_choice_needs(tmp_path, monkeypatch):
    stored = synthetic_bank(tmp_path / "bank", {"train": 6, "test": 1})
    whole = LabelSpace(np.arange(CLASSES), ())
    draws = draw_supports(jax.random.key(0), stored.select(["train"]), whole, 6, 2)
    chosen = (Engine(), get_adapter("text_prototype"), START["text_prototype"], draws)
    for enough, together, folds in ((2 * CLASSES, False, 1), (2 * CLASSES + 1, False, 2)):
        monkeypatch.setattr("fsclip_jax.fitting.selection.ENOUGH_HELD_OUT", enough)
        choice = select_held_out(*chosen, together=together)
        assert choice.record["rule"].endswith(f"{folds} of 4 folds")
    # The images of all draws count where one setting serves them all.
    choice = select_held_out(*chosen, together=True)
    assert choice.record["rule"].endswith("1 of 4 folds")


def test_a_setting_by_the_number_of_shots_is_told_as_it_is_used():
    """Nothing chosen, one shot, or more shots than a search has time for: the published values."""
    method = Method(
        "proker", get_adapter("proker"), get_adapter("proker").init(jax.random.key(0), DIM)
    )

    def record(shots, select):
        task = example_task(way=4, shot=shots, dim=4)[0]
        draws = draws_of(jax.tree.map(lambda leaf: leaf[None], task))
        return choose_setting(Engine(), method, draws, select).record

    assert record(16, "none")["penalty"] == np.float32(0.1)
    assert record(1, "shots")["beta"] == 3
    many = record(1000, "shots")
    assert many["beta"] == np.float32(1.7)
    assert many["rule"].startswith("more than 3,000 shots")
