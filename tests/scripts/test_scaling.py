"""The arithmetic of docs/scaling.md against arrays, the benchmarks' counts and measurements."""

import dataclasses
import json
import math

import pytest
import scaling
import stage_costs
from encode import MODELS, products
from meta_adapter_step import work
from stage_costs import ACCELERATORS, SIZES, Work, classes_of, first, limits, measured, on, on_cpu


@pytest.fixture(scope="module")
def rates():
    return measured()


def test_the_tower_s_operations_are_those_of_the_benchmark():
    assert stage_costs.tower_flops() == products(MODELS["vit-b32"])


def test_a_training_s_operations_are_those_of_the_benchmark(rates):
    train = stage_costs.stages(10**6, rates)["meta-train"]
    flops, _ = work(1000, stage_costs.SHOT, stage_costs.DIM, stage_costs.QUERIES * 1000)
    assert train.flops == stage_costs.EPISODES * flops
    assert rates.stages["train"]["flops"] == flops


def test_the_cpu_s_times_are_what_was_measured(rates):
    """At the sizes of the measurement itself, so that only the scaling is arithmetic."""
    found = stage_costs.stages(10**6, rates)
    assert on_cpu(found["meta-train"], 1) == pytest.approx(
        stage_costs.EPISODES * rates.seconds("train")
    )
    hundred = stage_costs.stages(10**5, rates)  # 100 classes
    assert hundred["fit, trained (Tip-Adapter-F)"].core == pytest.approx(
        rates.seconds("fit tip_adapter_f")
    )
    assert hundred["fit, closed form (GDA)"].core == pytest.approx(rates.seconds("fit gda"))
    assert hundred["search (Tip-Adapter, val)"].core == pytest.approx(
        rates.seconds("search") * 10**4
    )
    assert hundred["decode"].core == pytest.approx(rates.seconds("decode") * 10**5)
    (row,) = [
        row["ours"]
        for row in json.loads((stage_costs.RESULTS / "encode-cpu-float32-32-vit.json").read_text())[
            "rows"
        ]
        if row["model"] == "vit-b32"
    ]
    assert on_cpu(hundred["encode"]) == pytest.approx(10**5 / row)


def test_a_bank_on_a_device_is_its_features_and_little_else():
    for size in SIZES:
        features = 4 * stage_costs.DIM * size
        assert features < stage_costs.device_bytes(size) < 1.03 * features + 45e6


def test_the_features_are_nearly_all_of_a_bank_on_disk(rates):
    a_picture = stage_costs.bank_bytes(1, rates)
    assert 2 * stage_costs.DIM < a_picture < 2 * stage_costs.DIM + 100  # float16; names and labels


@pytest.mark.parametrize("size", SIZES)
def test_more_devices_are_never_slower_and_no_more_are_used_than_share_a_stage(size, rates):
    gpu, gpus, _ = ACCELERATORS
    for name, stage in stage_costs.stages(size, rates).items():
        assert on(stage, gpus) <= on(stage, gpu), name
        assert on(stage, gpu) <= 8 * on(stage, gpus) * (1 + 1e-9), name
        if stage.most < 8:
            four = dataclasses.replace(gpus, devices=stage.most)
            assert on(stage, gpus) == on(dataclasses.replace(stage, most=10**9), four), name


def test_what_takes_longer_decides():
    gpu = ACCELERATORS[0]
    tower = Work(0.0, 1e18, 0.0)
    seconds = 1e18 / (stage_costs.SHARE * gpu.flops)
    assert on(tower, gpu) == pytest.approx(seconds)
    waiting = dataclasses.replace(tower, decode=2 * seconds * gpu.cores)
    assert on(waiting, gpu) == pytest.approx(2 * seconds)


def test_stages_that_read_every_picture_grow_with_the_pictures(rates):
    few, many = (stage_costs.stages(size, rates) for size in (10**4, 10**6))
    for name in ("decode", "encode", "read the bank"):
        assert many[name].core == pytest.approx(100 * few[name].core)
        assert many[name].flops == pytest.approx(100 * few[name].flops)
    assert many["meta-train"].flops < 1000 * few["meta-train"].flops
    assert [classes_of(size) for size in SIZES] == [10, 10, 100, 1000, 10_000, 21_841]


def test_the_limits_are_where_something_is_first_true_and_are_told_in_order():
    found = limits()
    assert [each.pictures for each in found] == sorted(each.pictures for each in found)
    assert all(1000 <= each.pictures <= 10**10 for each in found)
    assert all(each.what and each.cure for each in found)
    assert first(lambda n: n >= 123_000) == 130_000
    assert first(lambda n: n < 0) == math.inf


def test_the_tables_have_a_column_a_size_and_no_machine_twice():
    text = scaling.time_tables()
    tables = text.split("\n\n")
    assert len(tables) == 1 + len(ACCELERATORS)
    titles = [table.split("|")[1] for table in tables]
    assert "measured" in titles[0]
    assert all("published" in title for title in titles[1:])
    assert len(set(titles)) == len(titles)
    rows = [row for table in (*tables, scaling.byte_table()) for row in table.splitlines()]
    assert {row.count("|") for row in rows} == {len(SIZES) + 2}


@pytest.mark.slow
def test_the_measurements_run_at_small_sizes(rates):
    from stages import measure

    found = measure(pictures=40, rows=64, way=4, times=1)
    assert found.keys() == rates.stages.keys()
    assert {name: each.keys() for name, each in found.items()} == {
        name: each.keys() for name, each in rates.stages.items()
    }
    assert all(each["seconds"] >= 0 for each in found.values())
