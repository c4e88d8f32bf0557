"""A training gives the same accuracies to the last digit on any number of devices."""

import dataclasses

import jax
import numpy as np
import pytest

from fsclip_jax.adapters.checkpoint import load_adapter
from fsclip_jax.training.metrics_log import read_metrics
from fsclip_jax.training.run import train


@pytest.mark.slow
def test_accuracies_are_the_same_on_any_number_of_devices(recipe, make_bank, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(20, 16)).repeat(9, 0) + 1.5 * rng.normal(size=(180, 16))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    stored = make_bank(features=images.astype(np.float32))  # so noisy that classes are confused
    config, every = dataclasses.replace(recipe, batch=8), jax.devices()
    accuracies, learned = {}, {}
    for count in (1, 2, 4, 8):
        monkeypatch.setattr(jax, "devices", lambda count=count: every[:count])
        workdir = tmp_path / str(count)
        assert train(config, workdir, lambda: stored).step == config.steps
        rows = read_metrics(workdir / "metrics.jsonl")
        accuracies[count] = [(row.get("accuracy"), row.get("val_accuracy")) for row in rows]
        learned[count] = jax.tree.leaves(load_adapter(workdir)[1])
    for count in (2, 4, 8):
        assert accuracies[count] == accuracies[1]
        for one, many in zip(learned[1], learned[count], strict=True):
            np.testing.assert_allclose(many, one, rtol=1e-4, atol=1e-6)
    told = {accuracy for pair in accuracies[1] for accuracy in pair if accuracy is not None}
    assert len(told) > 2
    assert max(told) < 100
