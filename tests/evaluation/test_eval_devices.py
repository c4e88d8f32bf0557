"""Devices share the methods and shots of a comparison; the numbers are those of one."""

import json
import threading

import jax
import numpy as np
import pytest
from folders import without_times
from synthetic_bank import synthetic_bank

from fsclip_jax.devices import device_of_thread, over_devices
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.evaluate import evaluate_bank
from fsclip_jax.fitting import fitted as fitted_module
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.report.rows import report_to_json

METHODS = ("zero_shot", "tip_adapter", "gda", "taskres")
"""Nothing fitted, searched, a closed form, trained."""

PROTOCOLS = {
    "full_way": {"shots": (1, 2), "seeds": 3},
    "cross_category": {"shots": (2,), "seeds": 2},
    "episodic": {"shots": (1, 3), "way": 4, "query": 2, "episodes": 12},
    "transductive": {"shots": (1, 2), "seeds": 2, "methods": ("zero_shot", "gda")},
    "cross_dataset": {"shots": (1, 2), "seeds": 2, "targets": ("bank:other",)},
}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return synthetic_bank(tmp_path_factory.mktemp("other") / "bank", seed=5, spec="other")


def rows(report):
    return without_times(json.loads(report_to_json(report)))["rows"]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_numbers_are_those_of_one_device(bank, other, tmp_path, monkeypatch, protocol):
    config = EvalConfig(**{"methods": METHODS, "protocol": protocol, **PROTOCOLS[protocol]})
    targets = [other] if config.targets else []
    found, every, engine = {}, jax.devices(), Engine()
    counts = (1, 2, 4, 8) if protocol == "full_way" else (1, 8)
    for count in counts:
        monkeypatch.setattr(jax, "local_devices", lambda count=count: every[:count])
        found[count] = evaluate_bank(config, bank, tmp_path, engine=engine, targets=targets)
    for count in counts[1:]:
        assert rows(found[count].report) == rows(found[1].report)
        if found[1].predictions is not None:
            for one, many in zip(
                found[1].predictions.rows, found[count].predictions.rows, strict=True
            ):
                jax.tree.map(np.testing.assert_array_equal, vars(one), vars(many))


@pytest.mark.slow
def test_the_draws_of_one_method_are_spread_as_well(bank, tmp_path, monkeypatch):
    """Large draws are fitted one by one; here they are small, and taken for large ones."""
    monkeypatch.setattr(fitted_module, "FITS", 1)
    config = EvalConfig(methods=("tip_adapter",), shots=(2,), seeds=12)
    found, used, every, run = {}, set(), jax.devices(), Engine.run

    def watched(self, name, function, *args):
        if name[0] == "fit":
            used.add(device_of_thread())
        return run(self, name, function, *args)

    monkeypatch.setattr(Engine, "run", watched)
    for count in (1, 8):
        monkeypatch.setattr(jax, "local_devices", lambda count=count: every[:count])
        found[count] = rows(evaluate_bank(config, bank, tmp_path).report)
    assert found[8] == found[1]
    assert used == {None, *every}


def test_every_device_has_work_and_what_is_given_is_in_order():
    together = threading.Barrier(8, timeout=30)

    def work(item):
        together.wait()  # so that no device takes two before all have one
        array = jax.numpy.arange(3) + item
        return item, array.devices().pop(), int(array.sum())

    found = list(over_devices(work, range(16)))
    assert [item for item, _, _ in found] == list(range(16))
    assert {device for _, device, _ in found} == set(jax.devices())
    assert [total for _, _, total in found] == [3 * item + 3 for item in range(16)]


def test_work_within_work_stays_on_its_device():
    def outer(_):
        inner = over_devices(lambda _: jax.numpy.zeros(1).devices().pop(), range(4))
        return device_of_thread(), set(inner)

    for device, within in over_devices(outer, range(8)):
        assert within == {device}


def test_what_fails_is_told_and_what_waits_is_left():
    done = []

    def work(item):
        if item == 3:
            raise ValueError("the third")
        done.append(item)
        return item

    with pytest.raises(ValueError, match="the third"):
        list(over_devices(work, range(1000)))
    assert len(done) < 1000
