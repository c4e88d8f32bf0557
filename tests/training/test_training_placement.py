"""A bank that is split over the devices, or stays on the disk, gives the steps of a whole one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.checkpoint import load_adapter
from fsclip_jax.cli.main import main
from fsclip_jax.cli.train_display import describe_episodes
from fsclip_jax.devices import batch_sharding, data_mesh, on_every_device
from fsclip_jax.features.rows import BankRows
from fsclip_jax.hosts import Hosts
from fsclip_jax.training.loop import Episodes, Observer, make_advance
from fsclip_jax.training.metrics_log import read_metrics
from fsclip_jax.training.placement import (
    PLACEMENTS,
    Size,
    bytes_a_device,
    choose_placement,
    device_memory,
    fetch,
    place,
    put_sharded,
)
from fsclip_jax.training.run import train
from fsclip_jax.training.state import init_state, run_keys
from fsclip_jax.training.step import batch_loss, episode_loss
from fsclip_jax.training.tasks import (
    choose_classes,
    make_draw,
    make_reader,
    make_sampler,
    rows_of,
    training_episodes,
)
from fsclip_jax.training.validation import validation_episodes


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
def test_the_episodes_and_their_gradients_are_those_of_a_whole_bank(make_bank, recipe, views):
    stored, mesh = make_bank(views=views), data_mesh(4)
    config, ids = dataclasses.replace(recipe, batch=8), np.arange(20)
    key, adapter = jax.random.key(5), get_adapter("meta_adapter")
    params = adapter.init(jax.random.key(1), stored.dim)
    whole, plan = training_episodes(stored, config, ids)
    (source,) = place(whole, "replicated", mesh)
    expected = jax.jit(make_sampler(plan, 8, mesh))(key, source)
    part, _ = training_episodes(stored, config, ids, placement="sharded")
    bank, shares = place(part, "sharded", mesh)
    drawn = jax.jit(make_draw(plan, 8, mesh))(key, bank)
    index = rows_of(drawn)
    shared = jax.jit(lambda features, index: fetch(features, index, mesh))(shares, index)
    of_host = np.stack([part.rows.read(np.asarray(rows)) for rows in index])

    @jax.jit
    @jax.grad
    def grads(params, task, query):
        return batch_loss(adapter, params, task, query, jax.random.split(key, 8))[0]

    def assert_same(ours, theirs):  # to the bit, but for the mean over views
        near = {"rtol": 1e-5, "atol": 1e-6} if views > 1 else {"rtol": 0}
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **near), ours, theirs)

    for rows in (shared, jnp.asarray(of_host)):
        found = jax.jit(make_reader(8, mesh))(key, bank, drawn, rows)
        assert_same(found, expected)
        assert_same(grads(params, *found), grads(params, *expected))


@pytest.mark.parametrize(("views", "families"), [(1, False), (3, True)])
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


def test_fewer_rows_than_devices_are_split_as_well(stored):
    mesh, rows = data_mesh(8), BankRows(stored, np.array([7, 2, 5]))
    features = put_sharded(rows, mesh)
    assert {part.data.shape for part in features.addressable_shards} == {(1, 1, stored.dim)}
    index = jnp.tile(jnp.array([[2, 0, 1, 1]], jnp.int32), (8, 1))
    found = jax.jit(lambda f, i: fetch(f, i, mesh))(features, index)
    np.testing.assert_array_equal(found[3, 0], stored.read(np.array([2, 5, 7]))[0, [1, 2, 0, 0]])


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("devices", [1, 4, 8])
def test_a_device_holds_as_many_bytes_as_the_formula_says(
    make_bank, recipe, placement, views, devices
):
    stored, mesh = make_bank(views=views, classes=21), data_mesh(devices)
    ids = np.arange(17)
    source, _ = training_episodes(stored, recipe, ids, placement=placement)
    count = len(source.bank.labels)
    held = dict.fromkeys(mesh.devices.flat, 0)
    for leaf in jax.tree.leaves(place(source, placement, mesh)):
        for part in leaf.addressable_shards:
            held[part.device] += part.data.nbytes
    assert count % 4
    size = Size(views, count, stored.dim, len(ids))
    assert set(held.values()) == {bytes_a_device(placement, size, devices)}


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


def test_what_is_trained_on_says_where_it_lies(stored, recipe):
    said = {"replicated": "images, dim 16", "host": "images read from the disk, dim 16"}
    for placement, words in {**said, "sharded": "images split over the devices"}.items():
        drawn = training_episodes(stored, recipe, np.arange(20), placement=placement)
        assert words in describe_episodes(stored, Episodes(*drawn, None, placement), 0)


def test_the_size_chooses(monkeypatch):
    mesh = data_mesh(4)
    monkeypatch.setattr("fsclip_jax.training.placement.device_memory", lambda: 2**30)
    few, many = Size(1, 2**17, 512, 100), Size(1, 2**19, 512, 100)  # 256 MB and 1 GB
    assert choose_placement("auto", few, mesh) == "replicated"
    assert choose_placement("auto", few._replace(views=2), mesh) == "host"  # the mean is a third
    assert choose_placement("auto", few._replace(classes=2**17), mesh) == "host"
    assert choose_placement("auto", many, mesh) == "host"
    assert choose_placement("auto", many, mesh, whole="why") == "replicated"
    for asked in PLACEMENTS:
        assert choose_placement(asked, many, mesh) == asked

    class Gpu:
        platform = "gpu"

    monkeypatch.setattr(jax, "local_devices", lambda: [Gpu()] * 4)
    assert choose_placement("auto", many, mesh) == "sharded"
    assert choose_placement("auto", many, data_mesh(2)) == "host"


class Others(Hosts):
    """Two hosts, the other of which chose to share."""

    def hear(self, name):
        assert name == "placement/1"
        return str(PLACEMENTS.index("sharded"))


def test_hosts_agree_on_what_asks_least_of_a_device():
    size, mesh = Size(1, 1000, 16, 10), data_mesh(4)
    assert choose_placement("auto", size, mesh, Others(0, 2)) == "sharded"
    assert choose_placement("host", size, mesh, Others(0, 2)) == "host"


def test_what_must_lie_whole_says_why(stored, tmp_path, capsys):
    words = ["train", "--data", f"bank:{stored.path}", "--workdir", str(tmp_path / "run")]
    words += ["--steps", "1", "--method", "meta_prior", "--bank-placement", "host"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "--bank-placement is host, but meta_prior starts from all images at once" in told
    assert "Traceback" not in told


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


def test_devices_of_a_cpu_share_what_this_process_may_use(monkeypatch):
    monkeypatch.setattr("fsclip_jax.training.placement.memory", lambda: 9 * 2**30)
    assert device_memory() == 2**30
