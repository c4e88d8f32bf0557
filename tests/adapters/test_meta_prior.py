"""Meta-Prior: the solver against plain NumPy, the measured metric, and what training changes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.checkpoint import restore_adapter
from fsclip_jax.adapters.meta_prior import MetaPrior
from fsclip_jax.features.importing import import_npz
from fsclip_jax.features.store import open_bank
from fsclip_jax.training.config import TrainConfig
from fsclip_jax.training.run import train

KEY = jax.random.key(0)


def away_from_start(adapter, dim=8, seed=3):
    """Parameters at which every leaf matters."""
    params = adapter.prime(adapter.init(KEY, dim), example_task(way=9, shot=5, dim=dim, seed=7)[0])
    rng = np.random.default_rng(seed)
    metric = params.pop("metric", None)
    params = jax.tree.map(
        lambda x: jnp.asarray(0.03 * rng.standard_normal(x.shape), jnp.float32), params
    )
    if metric is not None:
        params["metric"] = {**metric, "shrink": jnp.float32(0.05)}
    return params


def plain(adapter, params, task, features):
    """The equations of docs/methods.md one after the other, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    s, k, text = p["steps"], p["kernel"], np.asarray(task.text, np.float64)
    mask = np.asarray(task.support_mask)
    shots = [np.asarray(x, np.float64)[m] for x, m in zip(task.support, mask, strict=True)]
    centre = np.mean([x.mean(0) for x in shots if len(x)], axis=0)
    centre = centre / (1 + np.exp(-(3 + 10 * k["centre"])))
    matrix = np.eye(text.shape[1])
    if adapter.whiten:
        m = p["metric"]
        scale = np.sqrt(m["spread"] + 0.1 * np.exp(10 * m["shrink"]))
        matrix = m["basis"] / scale[:, None]
    x = np.concatenate(shots)
    labels = np.repeat(np.arange(len(shots)), [len(part) for part in shots])
    y = np.eye(len(shots))[labels]
    share = np.array([len(part) for part in shots])[labels, None] ** (10.0 * s["shots"])

    def embed(a):
        a = (a - centre) @ matrix.T
        return a / np.linalg.norm(a, axis=1, keepdims=True)

    def near(a):
        return np.exp(2 * np.exp(10 * k["beta"]) * (embed(a) @ embed(x).T - 1))

    weights = np.exp(10 * p["text"]["omega"]) * float(task.logit_scale) * text
    inverse = np.eye(len(x))
    if adapter.precondition:
        inverse = np.linalg.inv(near(x) + np.exp(10 * s["ridge"]) * np.eye(len(x)))
    a = 2 * np.exp(10 * s["first"]) * inverse @ (share * (y - 1 / len(shots)))
    v = np.zeros_like(a)
    for t in range(adapter.steps):
        logits = x @ weights.T + near(x) @ a
        odds = np.exp(logits - logits.max(1, keepdims=True))
        error = y - odds / odds.sum(1, keepdims=True) - 0.01 * np.exp(10 * s["decay"]) * a
        v = 0.5 * np.exp(10 * s["momentum"]) * v
        v = v + 2 * np.exp(10 * s["rate"][t]) * inverse @ (share * error)
        a = a + v
    f = np.asarray(features, np.float64)
    return f @ weights.T + near(f) @ a


@pytest.mark.parametrize(
    "config", [{}, {"steps": 0}, {"whiten": False}, {"precondition": False, "steps": 2}], ids=str
)
def test_agrees_with_the_equations_in_numpy(config):
    adapter = get_adapter("meta_prior", **config)
    params = away_from_start(adapter)
    task, query = example_task(way=5, shot=4, query=12)
    counts = jnp.array([4, 3, 1, 0, 2])
    mask = jnp.arange(4)[None, :] < counts[:, None]
    task = task._replace(support_mask=mask, logit_scale=jnp.float32(30.0))
    got = adapter.logits(adapter.fit(params, task, KEY), query.features)
    expected = plain(adapter, params, task, query.features)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_steps_approach_the_most_likely_latent_function():
    """With many steps, what is left of the error is what the decay holds against it."""
    adapter = MetaPrior(steps=400, whiten=False)
    params = adapter.init(KEY, 8)
    params["steps"]["decay"] = jnp.log(jnp.float32(20.0)) / 10  # 0.2
    task, _ = example_task(way=4, shot=3)
    task = task._replace(logit_scale=jnp.float32(5.0))
    state = adapter.fit(params, task, KEY)
    logits = adapter.logits(state, task.support.reshape(12, 8))
    error = jnp.repeat(jnp.eye(4), 3, axis=0) - jax.nn.softmax(logits, axis=-1)
    np.testing.assert_allclose(0.2 * state["coefficients"], error, atol=2e-4)


def test_steps_stay_bounded_with_many_shots():
    """What steps without the factorisation say at the shots grows with their number."""
    task, _ = example_task(way=4, shot=256)
    said = {}
    for precondition in (True, False):
        adapter = MetaPrior(precondition=precondition)
        state = adapter.fit(adapter.init(KEY, 8), task, KEY)
        shots = task.support[:, 0]
        text = task.logit_scale * shots @ task.text.T
        said[precondition] = float(jnp.abs(adapter.logits(state, shots) - text).max())
    assert said[True] < 50
    assert said[False] > 5 * said[True]


def test_prime_whitens_the_spread_within_classes():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    spread = np.array([9.0, 4.0, 1.0, 0.5, 0.3, 0.1])
    centres = rng.standard_normal((200, 1, 6))
    noise = rng.standard_normal((200, 8, 6)) * np.sqrt(spread) @ directions
    task, _ = example_task(way=200, shot=8, dim=6)
    task = task._replace(support=jnp.asarray(centres + noise, jnp.float32))
    adapter = MetaPrior()
    metric = adapter.prime(adapter.init(KEY, 6), task)["metric"]
    order = np.argsort(-np.asarray(metric["spread"]))
    np.testing.assert_allclose(
        np.asarray(metric["spread"])[order], spread / spread.mean(), rtol=0.15
    )
    overlap = np.abs(np.asarray(metric["basis"])[order] @ directions.T)
    np.testing.assert_allclose(np.diag(overlap), 1.0, atol=0.1)


def test_prime_keeps_the_identity_where_no_class_has_two_images():
    adapter = MetaPrior()
    params = adapter.init(KEY, 8)
    primed = adapter.prime(params, example_task(way=5, shot=1)[0])
    np.testing.assert_array_equal(primed["metric"]["basis"], params["metric"]["basis"])


def test_what_was_measured_is_not_learned():
    adapter = MetaPrior()
    params = away_from_start(adapter)
    task, query = example_task()

    def loss(params):
        logits = adapter.logits(adapter.fit(params, task, KEY), query.features)
        return -jax.nn.log_softmax(logits)[jnp.arange(6), query.labels].mean()

    gradient = jax.grad(loss)(params)
    assert float(jnp.abs(gradient["metric"]["basis"]).max()) == 0
    assert float(jnp.abs(gradient["metric"]["spread"]).max()) == 0
    learned = [*jax.tree.leaves({**gradient, "metric": gradient["metric"]["shrink"]})]
    assert all(float(jnp.abs(leaf).min()) > 0 for leaf in learned)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """Twenty classes whose images differ along two directions that tell nothing of the class."""
    rng = np.random.default_rng(1)
    folder = tmp_path_factory.mktemp("prior")
    centres = rng.standard_normal((20, 1, 16))
    noise = 0.4 * rng.standard_normal((20, 8, 16))
    noise[..., :2] *= 12
    features = (centres + noise).reshape(-1, 16)
    text = centres[:, 0] + 1.5 * rng.standard_normal((20, 16))
    np.savez(
        folder / "features.npz",
        features=features.astype(np.float32),
        labels=np.repeat(np.arange(20), 8),
        class_names=np.array([f"class {i}" for i in range(20)]),
        text_features=(text / np.linalg.norm(text, axis=1, keepdims=True)).astype(np.float32),
    )
    import_npz(folder / "features.npz", folder / "bank")
    return open_bank(folder / "bank")


def test_training_measures_the_metric_before_the_first_step(stored, tmp_path):
    config = TrainConfig(
        data="bank:x",
        method="meta_prior",
        fields=("steps=2",),
        classes="all",
        steps=6,
        way=8,
        shot=3,
        query=2,
        batch=8,
        learning_rate=1e-2,
        warmup_steps=1,
        steps_per_dispatch=6,
        eval_every=6,
        checkpoint_every=6,
        val_episodes=8,
    )
    outcome = train(config, tmp_path, lambda: stored)
    assert outcome.step == 6
    adapter, params, meta = restore_adapter(tmp_path, dim=16)
    assert adapter == MetaPrior(steps=2)
    assert meta["config"] == dataclasses.asdict(adapter)
    spread = np.sort(np.asarray(params["metric"]["spread"]))
    assert spread[-2] > 5 * spread[-3]  # the two directions that tell nothing
