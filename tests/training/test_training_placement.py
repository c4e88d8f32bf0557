"""A bank that is split over the devices, or stays on the disk, gives the steps of a whole one."""

import dataclasses
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.checkpoint import load_adapter
from fsclip_jax.cli.main import main
from fsclip_jax.devices import batch_sharding, data_mesh, on_every_device
from fsclip_jax.features.rows import BankRows
from fsclip_jax.training.loop import Episodes, Observer, make_advance
from fsclip_jax.training.metrics_log import read_metrics
from fsclip_jax.training.placement import choose_placement, fetch, put_sharded
from fsclip_jax.training.run import train
from fsclip_jax.training.state import init_state, run_keys
from fsclip_jax.training.step import episode_loss
from fsclip_jax.training.tasks import choose_classes, training_episodes, validation_episodes


def steps(stored, config, placement, devices=4):
    """Parameters, losses and norms of gradients after five steps."""
    ids = choose_classes(len(stored.class_names), "all")[0]
    source, plan = training_episodes(stored, config, ids, placement=placement)
    episodes, mesh = Episodes(source, plan, None, placement), data_mesh(devices)
    adapter = get_adapter("meta_adapter")
    state, key = on_every_device(
        (init_state(adapter, stored.dim, config), run_keys(config.seed).episodes), mesh
    )
    advance = make_advance(adapter, config, episodes, key, mesh)
    told = []
    for first, end in ((0, 2), (2, 5)):
        state, metrics = advance(state, first, end)
        told.append(jax.tree.map(np.asarray, metrics))
    return state.params, jax.tree.map(lambda *each: np.concatenate(each), *told)


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("families", [False, True])
def test_the_steps_are_those_of_a_whole_bank(make_bank, recipe, views, families):
    stored = make_bank(views=views, families=families)
    config = dataclasses.replace(recipe, batch=8, min_shot=None if families else 1)
    whole = steps(stored, config, "replicated")
    for placement in ("sharded", "host"):
        other = steps(stored, config, placement)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), whole, other
        )
        np.testing.assert_array_equal(whole[1].lr, other[1].lr)


def test_a_device_holds_its_share_and_is_given_the_rows_it_asks_for(stored):
    mesh = data_mesh(4)
    order = stored.sorted_rows(("train",), np.arange(19, -1, -1))[0]
    rows = BankRows(stored, order)
    features = put_sharded(rows, mesh)
    assert rows.shape == (1, len(order), stored.dim)
    assert {part.data.shape for part in features.addressable_shards} == {(1, 30, stored.dim)}
    index = np.random.default_rng(0).integers(0, len(order), (8, 7))
    placed = jax.device_put(jnp.asarray(index, jnp.int32), batch_sharding(mesh))
    found = jax.jit(lambda f, i: fetch(f, i, mesh))(features, placed)
    assert {part.data.shape[0] for part in found.addressable_shards} == {2}
    expected = stored.read(np.arange(len(stored.labels)))[:, order][:, index]
    np.testing.assert_array_equal(np.moveaxis(np.asarray(found), 1, 0), expected)


def test_the_validation_reads_the_rows_of_its_episodes_alone(stored, recipe):
    ids = choose_classes(20, "all")[1]
    few = dataclasses.replace(recipe, val_episodes=1, way=2, shot=1, query=1)
    whole, part = (
        validation_episodes(stored, few, ids, placement=place) for place in ("replicated", "host")
    )
    for side, index in (("support", "support"), ("query", "query")):
        a, b = getattr(whole, side).bank.features, getattr(part, side).bank.features
        i, j = getattr(whole.episodes, index), getattr(part.episodes, index)
        np.testing.assert_array_equal(a[:, i], b[:, j])
        assert b.shape[1] <= 2 < a.shape[1]


def test_a_run_goes_on_from_another_placement(stored, recipe, tmp_path):
    config = dataclasses.replace(recipe, batch=8)
    train(config, tmp_path / "whole", lambda: stored)
    for placement in ("sharded", "host"):
        begin = dataclasses.replace(config, bank_placement=placement)
        place = tmp_path / placement
        stops = iter([0, 0, 2])
        half = Observer(stop_requested=lambda stops=stops: next(stops))
        assert train(begin, place, lambda: stored, half).step == 6
        again = dataclasses.replace(config, resume=True)
        assert train(again, place, lambda: stored).step == 12
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            load_adapter(tmp_path / "whole")[1],
            load_adapter(place)[1],
        )
        rows = [read_metrics(run / "metrics.jsonl") for run in (tmp_path / "whole", place)]
        assert [row.get("val_accuracy") for row in rows[0]] == pytest.approx(
            [row.get("val_accuracy") for row in rows[1]], abs=1e-3
        )


def test_the_size_chooses(monkeypatch):
    mesh = data_mesh(4)
    memory = 2**30
    monkeypatch.setattr("fsclip_jax.training.placement.device_memory", lambda: memory)
    few, many = (1, 2**17, 512), (1, 2**20, 512)  # 256 MB and 2 GB
    assert choose_placement("auto", few, mesh) == "replicated"
    assert choose_placement("auto", (2, 2**17, 512), mesh) == "host"  # the mean is a third view
    assert choose_placement("auto", many, mesh) == "host"
    assert choose_placement("auto", many, mesh, whole="why") == "replicated"
    for asked in ("replicated", "sharded", "host"):
        assert choose_placement(asked, many, mesh) == asked

    class Gpu:
        platform = "gpu"

    monkeypatch.setattr(jax, "local_devices", lambda: [Gpu()] * 4)
    assert choose_placement("auto", many, mesh) == "sharded"
    assert choose_placement("auto", (1, 2**23, 512), mesh) == "host"


def test_what_must_lie_whole_says_why(stored, tmp_path, capsys):
    words = ["train", "--data", f"bank:{stored.path}", "--workdir", str(tmp_path / "run")]
    words += ["--steps", "1", "--method", "meta_prior", "--bank-placement", "host"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "--bank-placement is host, but meta_prior starts from all images at once" in told
    assert "Traceback" not in told


def test_few_rows_of_a_shard_are_read_alone(make_bank):
    stored = make_bank(classes=40, images=300, dim=64)
    every = stored.read(np.arange(len(stored.labels)))
    some = np.array([0, 5, 11_999])
    tracemalloc.start()
    found = stored.read(some)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(found, every[:, some])
    assert peak < every.nbytes / 10


@pytest.mark.parametrize("most", [7, 24, 1000])
def test_the_loss_in_parts_is_the_loss(most):
    task, query = example_task(way=5, shot=3, query=11)
    query = query._replace(mask=query.mask.at[3].set(False))
    adapter = get_adapter("meta_adapter")
    params = adapter.init(jax.random.key(1), 8)

    def value(params, most):
        return episode_loss(adapter, params, task, query, jax.random.key(0), most)

    (loss, right), grads = jax.value_and_grad(value, has_aux=True)(params, 10**9)
    (part, also), same = jax.value_and_grad(value, has_aux=True)(params, most)
    assert float(part) == pytest.approx(float(loss), rel=1e-6)
    assert float(also) == pytest.approx(float(right), rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), grads, same)
