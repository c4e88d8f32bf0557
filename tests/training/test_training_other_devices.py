"""A run that was begun on eight devices is continued on another number of them."""

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from fsclip_jax.adapters.checkpoint import load_adapter
from fsclip_jax.training.loop import Observer
from fsclip_jax.training.metrics_log import read_metrics
from fsclip_jax.training.run import train

CONTINUE = """
import json, sys
from pathlib import Path
import jax
from fsclip_jax.devices import shared_mesh
from fsclip_jax.features.store import open_bank
from fsclip_jax.training.config import TrainConfig
from fsclip_jax.training.run import train

workdir, bank, fields = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
config = TrainConfig(**fields, resume=True)
assert shared_mesh(config.batch).size == len(jax.devices()) == int(sys.argv[4])
print(train(config, workdir, lambda: open_bank(bank)).step)
"""


@pytest.fixture
def begun(recipe, stored, tmp_path):
    """A run to its end on eight devices, and one that was stopped half-way."""
    config = dataclasses.replace(recipe, batch=8)
    train(config, tmp_path / "whole", lambda: stored)
    calls = itertools.count(1)
    half = Observer(stop_requested=lambda: 2 * (next(calls) >= 3))
    assert train(config, tmp_path / "half", lambda: stored, half).step == 6
    fields = {k: v for k, v in vars(config).items() if k not in ("workdir", "resume")}
    return tmp_path, json.dumps(fields, default=str)


@pytest.mark.slow
def test_a_run_continues_on_another_number_of_devices(begun, stored):
    place, fields = begun
    for count in (1, 4):
        workdir = place / f"on-{count}"
        shutil.copytree(place / "half", workdir)
        flags = os.environ["XLA_FLAGS"].replace("device_count=8", f"device_count={count}")
        run = subprocess.run(
            [sys.executable, "-c", CONTINUE, workdir, stored.path, fields, str(count)],
            env={**os.environ, "XLA_FLAGS": flags},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, run.stderr
        assert run.stdout.split()[-1] == "12"
        steps = [row["step"] for row in read_metrics(workdir / "metrics.jsonl")]
        assert steps == [0, 2, 4, 6, 8, 10, 12]  # it began where the other had stopped
        pairs = zip(
            *(jax.tree.leaves(load_adapter(run)[1]) for run in (place / "whole", workdir)),
            strict=True,
        )
        for whole, continued in pairs:
            np.testing.assert_allclose(continued, whole, rtol=1e-4, atol=1e-5)
