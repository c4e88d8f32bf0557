"""Every method equals its published form in PyTorch, ``benchmarks/published/NAME.py``.

A form is found by its name. It has ``fit(task, ...)``, whose arguments are named like the scalars
and fields of the method, and ``logits(state, query)``. What is particular to it, it says itself:

- ``CASES``: settings to compare at, beside the defaults of both sides; sizes of the task among
  them (``shot``, ``views``, ...) make the task;
- ``LEAST_SHOTS``: how many shots every class must have; 0 if it does not say so;
- ``UP_TO_A_NUMBER = True``: logits are compared up to a number for each query;
- ``in_published_units(task, **settings)``: the arguments of ``fit``, where they differ from ours.

Where ``fit`` takes minibatches, it gets those that ours draws, and the losses of all steps must be
equal too. Forms that take a tower have tests of their own: ``test_prompt_learning.py`` and
``test_clip_lora.py``.
"""

import dataclasses
import importlib
import inspect
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from uneven_tasks import plain, same_batches, uneven_task

from fsclip_jax.adapters.base import needs_of
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.transductive.catalog import REFINEMENTS

torch = pytest.importorskip("torch")
# The tensors are tiny: threads that wait for each other only cost time.
torch.set_num_threads(1)

KEY = jax.random.key(5)
QUICK = {"epochs": 13, "batch": 9, "iterations": 50}  # four minibatches of 28 rows: 52 steps
SIZES = set(inspect.signature(uneven_task).parameters)
FORMS = {
    name: importlib.import_module(f"published.{name}")
    for name in ADAPTERS
    if find_spec(f"published.{name}") and not needs_of(get_adapter(name)) & {"words", "towers"}
}
CASES = [
    pytest.param(name, case, id=f"{name}-{case or 'defaults'}")
    for name, form in FORMS.items()
    for case in [{}, *getattr(form, "CASES", ())]
]


def test_every_form_is_of_a_method():
    """A form of another name would be compared with nothing."""
    files = Path(find_spec("published.loop").origin).parent.glob("*.py")
    forms = {file.stem for file in files} - {"loop", "text_tower", "meta_adapter_step"}
    assert forms <= {*ADAPTERS, *REFINEMENTS}


@pytest.mark.parametrize(("name", "case"), CASES)
def test_equals_its_published_form(name, case):
    form = FORMS[name]
    fields = {field.name for field in dataclasses.fields(ADAPTERS[name])}
    quick = {k: v for k, v in QUICK.items() if k in fields} if case else {"epochs": 2}
    config = {**quick, **case}
    adapter = get_adapter(name, **{k: v for k, v in config.items() if k in fields})
    task, query = uneven_task(**task_sizes(adapter, form, case))
    params = adapter.init(KEY, task.text.shape[1])
    params |= {k: jnp.float32(v) for k, v in case.items() if k in params}
    settings = {k: float(x) for k, x in params.items() if not isinstance(x, dict) and x.ndim == 0}
    settings |= {k: v for k, v in case.items() if k in fields}

    given = form_settings(form, task, settings if case else {}, adapter, params)
    theirs = form.fit(plain(task), **given)
    if "losses" in theirs:
        losses = jax.jit(adapter.train)(params, task, KEY).losses
        assert len(losses) == len(theirs["losses"])
        assert_agree(losses, theirs["losses"], 1e-3 if case else 1e-5)
        assert not case or (len(losses) >= 50 and np.ptp(losses) > 0.05)  # it does train
    ours = jax.jit(lambda p, t, f: adapter.logits(adapter.fit(p, t, KEY), f))
    logits = np.asarray(ours(params, task, query.features))
    with torch.no_grad():
        expected = np.asarray(form.logits(theirs, np.array(query.features)))
    if getattr(form, "UP_TO_A_NUMBER", False):
        logits = logits - logits.mean(1, keepdims=True)
        expected = expected - expected.mean(1, keepdims=True)
    assert_agree(logits, expected, 1e-4)


def task_sizes(adapter, form, case):
    """The sizes of a case's task, with what the method and its form cannot do without."""
    sizes = {k: v for k, v in case.items() if k in SIZES}
    prompts = 4 if "prompts" in needs_of(adapter) else 0
    sizes = {"before": 40, **sizes} if "projection" in needs_of(adapter) else sizes
    return {"prompts": prompts, "least": getattr(form, "LEAST_SHOTS", 0), **sizes}


def form_settings(form, task, settings, adapter, params):
    """The arguments of the form: settings, minibatches, and where learned parameters start."""
    taken = inspect.signature(form.fit).parameters
    if hasattr(form, "in_published_units"):
        settings = form.in_published_units(plain(task), **settings)
    given = {name: value for name, value in settings.items() if name in taken}
    if "iterations" in taken:
        given["iterations"] = adapter.iterations
    key = KEY
    if "start" in taken:
        start_key, key = jax.random.split(KEY)
        start = adapter.start(start_key, task.text.shape[1])
        given["start"] = {name: np.array(x) for name, x in start.items()}
    if "batches" in taken:
        text = getattr(adapter, "text_as_shot", False)
        given["batches"] = same_batches(task, key, adapter.epochs, adapter.batch, text)
    if "params" in taken:
        named = jax.tree_util.tree_leaves_with_path(params)
        given["params"] = {
            ".".join(e.key for e in path): torch.tensor(np.array(x)) for path, x in named
        }
    return given


def assert_agree(ours, theirs, tolerance):
    theirs = np.asarray(theirs)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())
