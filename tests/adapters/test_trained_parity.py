"""The methods that train on the shots of a task, against their plain forms in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from trained_tasks import plain, same_batches, uneven_task

from fsclip_jax.adapters.catalog import get_adapter

pytest.importorskip("torch")

import torch
from published import clap as published_clap
from published import clip_adapter as published_clip_adapter
from published import linear_probe as published_linear_probe
from published import lp_plus_plus as published_lp_plus_plus
from published import taskres as published_taskres
from published import tip_adapter_f as published_tip_adapter_f

# The tensors are tiny: threads that wait for each other only cost time.
torch.set_num_threads(1)

KEY = jax.random.key(5)
BATCH = 9  # of 28 rows: four minibatches of seven
EPOCHS = 13
STEPS = 50
CASES = {
    "tip_adapter_f": (
        published_tip_adapter_f,
        {},
        {"train_alpha": 2.0, "train_beta": 1.0, "alpha": 1.5, "beta": 3.0},
    ),
    "clip_adapter": (published_clip_adapter, {}, {}),
    "taskres": (published_taskres, {}, {"rate": 0.02}),
    "linear_probe": (published_linear_probe, {}, {}),
    "linear_probe_text": (published_linear_probe, {"text_as_shot": True}, {}),
    "clap": (published_clap, {}, {}),
}


def assert_agree(ours, theirs, tolerance):
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


@pytest.mark.parametrize("views", [0, 3])
@pytest.mark.parametrize("case", CASES)
def test_loss_curve_and_logits_equal_the_plain_form(case, views):
    published, config, changes = CASES[case]
    name = case.removesuffix("_text")
    task, query = uneven_task(views=views)
    adapter = get_adapter(name, epochs=EPOCHS, batch=BATCH, **config)
    dim = task.text.shape[1]
    params = adapter.init(KEY, dim) | {k: jnp.float32(v) for k, v in changes.items()}
    settings = {k: float(v) for k, v in params.items()} | config

    if name == "clip_adapter":
        start_key, key = jax.random.split(KEY)
        start = adapter.start(start_key, dim)
        settings["start"] = {k: np.array(v) for k, v in start.items()}
    else:
        key = KEY
    ours = adapter.train(params, task, KEY).losses
    batches = same_batches(task, key, EPOCHS, BATCH, **config)
    theirs = published.fit(plain(task), batches=batches, **settings)

    assert len(ours) == len(theirs["losses"]) >= STEPS
    assert np.ptp(theirs["losses"]) > 0.05  # it does train
    assert_agree(ours, theirs["losses"], 1e-3)
    logits = adapter.logits(adapter.fit(params, task, KEY), query.features)
    with torch.no_grad():
        assert_agree(logits, published.logits(theirs, np.array(query.features)), 1e-4)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_lp_plus_plus_equals_the_plain_form(momentum):
    task, query = uneven_task()
    adapter = get_adapter("lp_plus_plus", iterations=STEPS, momentum=momentum)
    theirs = published_lp_plus_plus.fit(plain(task), iterations=STEPS, momentum=momentum)
    assert_agree(adapter.train({}, task, KEY).losses, theirs["losses"], 1e-3)
    assert np.ptp(theirs["losses"]) > 0.1
    logits = adapter.logits(adapter.fit({}, task, KEY), query.features)
    assert_agree(logits, published_lp_plus_plus.logits(theirs, np.array(query.features)), 1e-4)


def test_the_default_settings_are_those_of_the_plain_forms():
    """The same minibatches, everything else left to each side's defaults, for a few epochs."""
    task, _ = uneven_task()
    for case in ("tip_adapter_f", "taskres", "linear_probe", "clap"):
        adapter = get_adapter(case, epochs=2)
        ours = adapter.train(adapter.init(KEY, task.text.shape[1]), task, KEY).losses
        batches = same_batches(task, KEY, 2, adapter.batch)
        assert_agree(ours, CASES[case][0].fit(plain(task), batches=batches)["losses"], 1e-5)
