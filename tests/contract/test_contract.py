"""Every method of the catalog goes through the same checks.

A new method gets all of this by its line in ``fsclip_jax/adapters/catalog.py``. What is particular
to it, it says of itself: see ``fsclip_jax/adapters/base.py``. The properties of JAX itself are
checked on one method of each kind.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.extend.core import jaxprs_in_params
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from safetensors.numpy import load_file, save_file

from fsclip_jax.adapters.base import Adapter, classes_meet, needs_of, scaled_of
from fsclip_jax.adapters.catalog import ADAPTERS, example_task, get_adapter
from fsclip_jax.adapters.checkpoint import restore_adapter, save_adapter
from fsclip_jax.adapters.clip_lora import encode
from fsclip_jax.adapters.describe import kind_of
from fsclip_jax.episodes.task import take_tasks, task_axes

QUICK = {"epochs": 3, "iterations": 12, "steps": 3, "dropout": 0.0}
"""Fields that make a method that trains on the shots quick on these small tasks, and leave it to
the shots alone: what is dropped goes by the place of a shot."""

ONE_BATCH = 64
"""Shots that fit into one batch: in several, their order decides what is learned."""

FIELDS = {
    "attn_adapter": [{"local": False, "hidden": 8}],
    "meta_adapter": [{"heads": 4}, {"heads": 2, "text_in_keys": False}],
}
"""Settings of fields that are no switches: each is a case beside the defaults."""

REPRESENTATIVES = ("gda", "tip_adapter_f", "meta_adapter", "coop")
"""One method of each kind, for the properties of JAX itself: no method brings code for them."""


def cases_of(name):
    """The method as it is, with every switch turned, and at the settings of ``FIELDS``.

    Learned prompts have their switches turned in ``test_prompt_learning.py``: a text tower makes
    every check here take seconds.
    """
    adapter = get_adapter(name)
    fields = {field.name: field.default for field in dataclasses.fields(adapter)}
    quick = {}
    if hasattr(adapter, "train"):
        quick = {field: value for field, value in QUICK.items() if field in fields}
        quick |= {"batch": ONE_BATCH} if fields.get("batch", ONE_BATCH) < ONE_BATCH else {}
    turned = [{field: not value} for field, value in fields.items() if isinstance(value, bool)]
    turned = [] if "words" in needs_of(adapter) else turned
    return [{**quick, **case} for case in [{}, *turned, *FIELDS.get(name, [])]]


ADAPTER_CASES = [
    pytest.param(get_adapter(name, **case), id="-".join([name, *map(str, case.items())]))
    for name in ADAPTERS
    for case in cases_of(name)
]
every_method = pytest.mark.parametrize("adapter", ADAPTER_CASES)
one_of_each_kind = pytest.mark.parametrize(
    "adapter",
    [get_adapter(name, **cases_of(name)[0]) for name in REPRESENTATIVES],
    ids=REPRESENTATIVES,
)

DIM = 16
CLOSE = {"rtol": 1e-5, "atol": 2e-4}  # of logits that reach 100: float32 rounding of the sums


def zero_shot(task, features):
    """The answers of the zero-shot classifier; of pictures, by the towers of the task."""
    if (towers := task.towers) is not None:
        images, key = towers.image.images(features), jax.random.key(0)
        features = encode(lambda _: towers.image.build(), images, key)
        text = encode(lambda _: towers.text.build(), towers.prompt_ids, key)
        task = task._replace(text=text)
    return predict(get_adapter("zero_shot"), {}, task, features)


def predict_eagerly(adapter, params, task, features):
    """Fit and classify: the whole of a method as one pure function."""
    return adapter.logits(adapter.fit(params, task, jax.random.key(2)), features)


# One compile costs less than many operations dispatched one by one; and a fit that was compiled
# serves any number of queries.
fit = jax.jit(lambda adapter, *args: adapter.fit(*args, jax.random.key(2)), static_argnums=0)
answer = jax.jit(lambda adapter, *args: adapter.logits(*args), static_argnums=0)


def predict(adapter, params, task, features):
    return answer(adapter, fit(adapter, params, task), features)


def make(adapter, **sizes):
    """Parameters away from zero and from the symmetry of the start, a task, query features."""
    params = adapter.init(jax.random.key(1), DIM)
    # The start of a Meta-Adapter attends almost evenly; ten times larger, attention matters.
    params = jax.tree.map(lambda x: x * 10 if x.ndim == 2 else x, params)
    task, query = example_task(**{"way": 5, "shot": 4, "dim": DIM, **extras(adapter), **sizes})
    return params, task, query.features


def extras(adapter):
    """What the method needs beyond features and text."""
    needs = needs_of(adapter)
    flags = {name: name in needs for name in ("words", "projection", "towers")}
    return {"prompts": 3 if "prompts" in needs else 0, **flags}


def overwrite(params, changes):
    """Set every leaf that ``changes`` names to a constant."""
    if not isinstance(changes, dict):
        return jnp.full_like(params, changes)
    return {k: overwrite(v, changes[k]) if k in changes else v for k, v in params.items()}


def reorder_classes(task, order):
    """The same task with its classes in another order."""
    prompts, words, towers = task.prompts, task.words, task.towers
    if prompts is not None:
        prompts = jax.tree.map(lambda x: x[order], prompts)
    if words is not None:
        words = words._replace(ids=words.ids[order], lengths=words.lengths[order])
    if towers is not None:
        towers = towers._replace(prompt_ids=towers.prompt_ids[order])
    return task._replace(
        support=task.support[order],
        support_mask=task.support_mask[order],
        text=task.text[order],
        views=None if task.views is None else task.views[order],
        prompts=prompts,
        words=words,
        towers=towers,
    )


def batch_of_tasks(adapter, count, way=5):
    """Tasks and queries with a leading axis; the text tower is one for all."""
    pairs = [example_task(way, 4, dim=DIM, seed=seed, **extras(adapter)) for seed in range(count)]
    axes = (task_axes(pairs[0][0]), jax.tree.map(lambda _: 0, pairs[0][1]))
    return jax.tree.map(
        lambda axis, *leaves: leaves[0] if axis is None else jnp.stack(leaves),
        axes, *pairs, is_leaf=lambda axis: axis is None,
    )  # fmt: skip


def predict_batch(adapter, params, tasks, features):
    one = jax.vmap(lambda task, f: predict(adapter, params, task, f), in_axes=(task_axes(tasks), 0))
    return one(tasks, features)


def test_every_kind_of_method_has_one_that_stands_for_it():
    kinds = [kind_of(get_adapter(name)) for name in REPRESENTATIVES]
    assert sorted(kinds) == sorted({kind_of(get_adapter(name)) for name in ADAPTERS})


@every_method
def test_follows_the_protocol(adapter):
    assert isinstance(adapter, Adapter)
    assert ADAPTERS[adapter.name] is type(adapter)
    assert hash(adapter) == hash(dataclasses.replace(adapter))
    with pytest.raises(dataclasses.FrozenInstanceError):
        adapter.name = "another"
    params, task, _ = make(adapter)
    state = jax.eval_shape(adapter.fit, params, task, jax.random.key(0))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state))


@every_method
def test_classes_may_come_in_any_order(adapter):
    params, task, features = make(adapter)
    order = jnp.array([3, 0, 4, 1, 2])
    permuted = reorder_classes(task, order)
    expected = predict(adapter, params, task, features)[:, order]
    np.testing.assert_allclose(predict(adapter, params, permuted, features), expected, **CLOSE)


@every_method
def test_shots_may_come_in_any_order(adapter):
    params, task, features = make(adapter)
    task = task._replace(support_mask=task.support_mask.at[1, 2:].set(False))
    order = jnp.array([2, 0, 3, 1])
    permuted = task._replace(
        support=task.support[:, order], support_mask=task.support_mask[:, order]
    )
    expected = predict(adapter, params, task, features)
    np.testing.assert_allclose(predict(adapter, params, permuted, features), expected, **CLOSE)


@every_method
def test_a_masked_shot_is_as_if_it_were_not_there(adapter):
    params, task, features = make(adapter)
    masked = task._replace(support_mask=task.support_mask.at[:, 2:].set(False))
    shorter = task._replace(support=task.support[:, :2], support_mask=task.support_mask[:, :2])
    expected = predict(adapter, params, shorter, features)
    np.testing.assert_allclose(predict(adapter, params, masked, features), expected, **CLOSE)


@every_method
def test_each_query_is_classified_on_its_own(adapter):
    params, task, features = make(adapter)
    together = predict(adapter, params, task, features)
    alone = jnp.concatenate([predict(adapter, params, task, row[None]) for row in features])
    np.testing.assert_allclose(together, alone, **CLOSE)


@one_of_each_kind
def test_compiled_equals_eager(adapter):
    params, task, features = make(adapter)
    eager = predict_eagerly(adapter, params, task, features)
    np.testing.assert_allclose(predict(adapter, params, task, features), eager, **CLOSE)


@one_of_each_kind
def test_vmap_over_episodes_equals_a_loop(adapter):
    params, _, _ = make(adapter)
    tasks, queries = batch_of_tasks(adapter, 3)
    batched = jax.jit(predict_batch, static_argnums=0)(adapter, params, tasks, queries.features)
    for index in range(3):
        alone = predict(adapter, params, take_tasks(tasks, index), queries.features[index])
        np.testing.assert_allclose(batched[index], alone, **CLOSE)


@one_of_each_kind
def test_vmap_over_parameters_equals_a_loop(adapter):
    params, task, features = make(adapter)
    if not jax.tree.leaves(params):
        pytest.skip("no parameters")
    several = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), params)
    batched = jax.vmap(lambda p: predict(adapter, p, task, features))(several)
    for index in range(2):
        one = jax.tree.map(lambda x, i=index: x[i], several)
        np.testing.assert_allclose(batched[index], predict(adapter, one, task, features), **CLOSE)


@one_of_each_kind
def test_four_devices_equal_one(adapter):
    params, _, _ = make(adapter)
    tasks, queries = batch_of_tasks(adapter, 8)
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    run = jax.jit(predict_batch, static_argnums=0)
    one = run(adapter, params, tasks, queries.features)
    whole = NamedSharding(mesh, PartitionSpec())
    split = jax.tree.map(
        lambda axis, leaves: jax.device_put(leaves, whole if axis is None else sharding),
        task_axes(tasks), tasks, is_leaf=lambda axis: axis is None,
    )  # fmt: skip
    four = run(
        adapter,
        jax.device_put(params, whole),
        split,
        jax.device_put(queries.features, sharding),
    )
    assert len(four.sharding.device_set) == 4
    np.testing.assert_allclose(four, one, **CLOSE)


@one_of_each_kind
def test_new_values_do_not_compile_again(adapter):
    params, task, features = make(adapter)
    traces = []

    @jax.jit
    def run(params, task, features):
        traces.append(1)
        return predict_eagerly(adapter, params, task, features)

    run(params, task, features)
    other, other_query = example_task(5, 4, dim=DIM, seed=9, **extras(adapter))
    other = other._replace(
        logit_scale=jnp.float32(30.0), support_mask=other.support_mask.at[0, 1:].set(False)
    )
    run(jax.tree.map(lambda x: x * 1.5, params), other, other_query.features)
    assert len(traces) == 1


@every_method
def test_gradients_are_finite(adapter):
    params, task, features = make(adapter)
    empty = task._replace(
        support=task.support.at[0].set(0).at[1, 0].set(0),
        support_mask=task.support_mask.at[0].set(False),
        text=task.text.at[2].set(0),
    )
    features = features.at[0].set(0)

    def loss(params, task, features):
        return jax.nn.logsumexp(predict(adapter, params, task, features), axis=-1).sum()

    floats = {"support": empty.support, "text": empty.text, "logit_scale": empty.logit_scale}
    gradient = jax.grad(lambda p, t, f: loss(p, empty._replace(**t), f), argnums=(0, 1, 2))
    gradients = jax.jit(gradient)(params, floats, features)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
        assert bool(jnp.isfinite(leaf).all()), jax.tree_util.keystr(path)


@every_method
def test_without_its_residual_it_is_zero_shot(adapter):
    if not hasattr(adapter, "zero_shot_at"):
        pytest.skip("the method is not a residual on zero-shot")
    if hasattr(adapter, "epochs"):
        adapter = dataclasses.replace(adapter, epochs=20)  # so that it does leave zero-shot
    params, task, features = make(adapter)
    off = overwrite(params, adapter.zero_shot_at)
    expected = zero_shot(task, features)
    np.testing.assert_allclose(predict(adapter, off, task, features), expected, **CLOSE)
    on = predict(adapter, params, task, features)
    assert float(jnp.abs(on - expected).max()) > 0.1


@every_method
def test_the_logit_scale_of_the_task_is_used(adapter):
    params, task, features = make(adapter)
    zero_shot = get_adapter("zero_shot")
    low, high = (
        predict(adapter, params, task._replace(logit_scale=jnp.float32(scale)), features)
        for scale in (10.0, 20.0)
    )
    assert float(jnp.abs(high - low).max()) > 1.0
    if scaled_of(adapter) == "text":
        text = predict(zero_shot, {}, task._replace(logit_scale=jnp.float32(10.0)), features)
        np.testing.assert_allclose(high - low, text, **CLOSE)
    elif scaled_of(adapter) == "all":
        np.testing.assert_allclose(high, 2 * low, **CLOSE)


@one_of_each_kind
@pytest.mark.filterwarnings("ignore:Sharding info not provided when restoring:UserWarning")
def test_state_survives_a_file(adapter, tmp_path):
    params, task, features = make(adapter)
    state = adapter.fit(params, task, jax.random.key(2))
    expected = adapter.logits(state, features)
    leaves, structure = jax.tree.flatten(state)
    save_file({str(i): np.asarray(x) for i, x in enumerate(leaves)}, tmp_path / "state.st")
    stored = load_file(tmp_path / "state.st")
    back = jax.tree.unflatten(structure, [jnp.array(stored[str(i)]) for i in range(len(leaves))])
    np.testing.assert_array_equal(adapter.logits(back, features), expected)

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "orbax", state)
        checkpointer.wait_until_finished()
        back = checkpointer.restore(tmp_path / "orbax", state)
    np.testing.assert_array_equal(adapter.logits(back, features), expected)


@every_method
def test_parameters_survive_a_file(adapter, tmp_path):
    params, task, features = make(adapter)
    save_adapter(tmp_path, adapter.name, params, {"dim": DIM}, adapter=adapter)
    back, loaded, _ = restore_adapter(tmp_path, dim=DIM)
    assert back == adapter
    np.testing.assert_array_equal(
        predict(back, loaded, task, features), predict(adapter, params, task, features)
    )


@every_method
def test_bfloat16_features(adapter):
    params, task, features = make(adapter)
    half = task._replace(
        support=task.support.astype(jnp.bfloat16), text=task.text.astype(jnp.bfloat16)
    )
    logits = predict(adapter, params, half, features.astype(jnp.bfloat16))
    expected = predict(adapter, params, task, features)
    # bfloat16 keeps 8 bits: 0.4 % of each of three rounded factors, of logits up to 100.
    np.testing.assert_allclose(logits.astype(jnp.float32), expected, atol=1.5)


@every_method
@pytest.mark.parametrize(
    ("way", "shot"), [(5, 1), (1, 4), (1, 1), (1000, 2)], ids=lambda size: str(size)
)
def test_sizes(adapter, way, shot):
    params, task, features = make(adapter, way=way, shot=shot)
    logits = predict(adapter, params, task, features)
    assert logits.shape == (features.shape[0], way)
    assert logits.dtype == jnp.float32
    assert bool(jnp.isfinite(logits).all())


@every_method
def test_uneven_shots_equal_each_class_on_its_own(adapter):
    if classes_meet(adapter):
        pytest.skip("its classes influence each other")
    params, task, features = make(adapter)
    counts = jnp.array([4, 3, 2, 1, 0])
    mask = jnp.arange(4)[None, :] < counts[:, None]
    uneven = task._replace(support=jnp.where(mask[..., None], task.support, 0), support_mask=mask)
    logits = predict(adapter, params, uneven, features)
    for index, count in enumerate(counts.tolist()):
        slots = max(count, 1)
        one = task._replace(
            support=task.support[index : index + 1, :slots],
            support_mask=jnp.full((1, slots), count > 0),
            text=task.text[index : index + 1],
        )
        alone = predict(adapter, params, one, features)[:, 0]
        np.testing.assert_allclose(logits[:, index], alone, **CLOSE)


@every_method
def test_uneven_shots_keep_the_order_of_classes_and_shots(adapter):
    params, task, features = make(adapter)
    mask = jnp.arange(4)[None, :] < jnp.array([4, 3, 2, 1, 0])[:, None]
    # What a masked slot holds has no say.
    uneven = task._replace(support_mask=mask)
    emptied = uneven._replace(support=jnp.where(mask[..., None], task.support, 0))
    logits = predict(adapter, params, uneven, features)
    assert bool(jnp.isfinite(logits).all())
    np.testing.assert_allclose(predict(adapter, params, emptied, features), logits, **CLOSE)
    order, slots = jnp.array([4, 2, 0, 3, 1]), jnp.array([3, 1, 0, 2])
    moved = reorder_classes(uneven, order)
    moved = moved._replace(
        support=moved.support[:, slots], support_mask=moved.support_mask[:, slots]
    )
    np.testing.assert_allclose(predict(adapter, params, moved, features), logits[:, order], **CLOSE)


@every_method
def test_views_that_are_all_alike_are_as_one(adapter):
    params, task, features = make(adapter)
    repeated = task._replace(views=jnp.repeat(task.support[:, :, None], 3, axis=2))
    expected = predict(adapter, params, task, features)
    np.testing.assert_allclose(predict(adapter, params, repeated, features), expected, **CLOSE)


@every_method
def test_views_are_masked_with_their_shots(adapter):
    params, task, features = make(adapter, views=3)
    masked = task._replace(support_mask=task.support_mask.at[:, 2:].set(False))
    shorter = task._replace(
        support=task.support[:, :2],
        support_mask=task.support_mask[:, :2],
        views=task.views[:, :2],
    )
    expected = predict(adapter, params, shorter, features)
    np.testing.assert_allclose(predict(adapter, params, masked, features), expected, **CLOSE)


@every_method
def test_a_task_without_any_shot_is_zero_shot(adapter):
    params, task, features = make(adapter)
    empty = task._replace(support_mask=jnp.zeros_like(task.support_mask))
    expected = zero_shot(task, features)
    np.testing.assert_allclose(predict(adapter, params, empty, features), expected, **CLOSE)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * bool(needs & {"words", "towers"}))
        for name, needs in ((name, needs_of(get_adapter(name))) for name in ADAPTERS)
    ],
)
def test_settings_of_draws_of_queries_mapped_at_once_equal_one_by_one(name):
    """Three maps in each other, as a search over settings of draws stacks them.

    jaxlib 0.10.2 counts ``sum(a * b, -1)`` wrongly on a CPU where one factor is repeated and there
    are many rows (https://github.com/jax-ml/jax/issues/39103): here there are 41,160 logits.
    """
    adapter = get_adapter(name, **cases_of(name)[0])
    through_towers = bool(needs_of(adapter) & {"words", "towers"})
    params, _, _ = make(adapter, way=7)
    tasks, _ = batch_of_tasks(adapter, 2, way=7)
    pool = make(adapter, way=7, query=10 if through_towers else 2940)[2]
    parts = pool.reshape(5, -1, *pool.shape[1:])
    several = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), params)
    scales = jnp.array([100.0, 40.0])

    def one(params, scale, task, features):
        return predict_eagerly(adapter, params, task._replace(logit_scale=scale), features)

    axes = task_axes(tasks)
    maps = jax.vmap(one, (None, None, None, 0))
    maps = jax.vmap(maps, (None, None, axes, None))
    maps = jax.vmap(maps, (0, 0, None, None))
    found = jax.jit(maps)(several, scales, tasks, parts)
    alone = jax.jit(one)
    for setting, draw, part in np.ndindex(found.shape[:3]):
        expected = alone(
            jax.tree.map(lambda x, i=setting: x[i], several),
            scales[setting],
            take_tasks(tasks, draw),
            parts[part],
        )
        np.testing.assert_allclose(found[setting, draw, part], expected, **CLOSE)


FACTORISATIONS = {"cholesky", "eigh", "eig", "lu", "qr", "svd", "householder_product"}


def factorisations(program):
    """Factorisations of a program, those of the programs that it calls among them."""
    called = [inner for each in program.eqns for inner in jaxprs_in_params(each.params)]
    own = sum(each.primitive.name in FACTORISATIONS for each in program.eqns)
    return own + sum(map(factorisations, called))


@every_method
def test_factorises_once(adapter):
    """Two that do not wait for each other can wait for each other's threads for ever on a CPU."""
    params, task, features = make(adapter)
    traced = jax.make_jaxpr(partial(predict_eagerly, adapter))(params, task, features)
    assert factorisations(traced.jaxpr) <= 1
