"""The Meta-Adapter: parity with PyTorch, and what its attention must do."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import published_forms as forms
import pytest
from flax import nnx
from safetensors.numpy import load_file

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.checkpoint import load_adapter, save_adapter
from fsclip_jax.adapters.meta_adapter import MetaAdapterModule, init_params, refine

GOLDEN = Path(__file__).parents[1] / "golden" / "adapters_refine.npz"
NAMES = ["q_proj.weight", "k_proj.weight", "alpha_proj.weight", "alpha_proj.bias"]


def nested(arrays):
    return {
        name.split(".")[0]: {
            other.split(".")[1]: jnp.asarray(arrays[other])
            for other in NAMES
            if other.split(".")[0] == name.split(".")[0]
        }
        for name in NAMES
    }


def ours(inputs, case):
    mask = jnp.asarray(forms.case_mask(inputs, case))
    text, support, query = (jnp.asarray(inputs[k]) for k in ("text", "support", "query"))

    def loss(params):
        refined = refine(params, text, support, mask, **forms.REFINE_CASES[case])
        logits = forms.LOGIT_SCALE * query @ refined.T
        return optax.softmax_cross_entropy_with_integer_labels(
            logits, jnp.asarray(inputs["labels"])
        ).mean(), refined

    (value, refined), gradients = jax.jit(jax.value_and_grad(loss, has_aux=True))(nested(inputs))
    return refined, value, gradients


def assert_equal(result, refined, loss, gradients):
    our_refined, our_loss, our_gradients = result
    np.testing.assert_allclose(our_refined, refined, atol=1e-6)
    np.testing.assert_allclose(our_loss, loss, rtol=1e-5)
    for name in NAMES:
        module, leaf = name.split(".")
        theirs = np.asarray(gradients[name])
        error = np.linalg.norm(our_gradients[module][leaf] - theirs) / np.linalg.norm(theirs)
        assert error < 1e-5, name


@pytest.mark.parametrize("case", forms.REFINE_CASES)
def test_equals_the_golden_arrays(case):
    golden = np.load(GOLDEN, allow_pickle=False)
    gradients = {name: golden[f"{case}/{name}"] for name in NAMES}
    result = ours(golden, case)
    assert_equal(result, golden[f"{case}/refined"], golden[f"{case}/loss"], gradients)


@pytest.mark.parametrize("case", forms.REFINE_CASES)
def test_equals_torch_live(case):
    pytest.importorskip("torch")
    inputs = forms.refine_inputs()
    assert_equal(ours(inputs, case), *forms.torch_reference(inputs, case))


def test_our_file_loads_into_linear_layers(tmp_path):
    torch = pytest.importorskip("torch")
    inputs = forms.refine_inputs()
    params = init_params(jax.random.key(4), 24)
    save_adapter(tmp_path, "meta_adapter", params, {})
    module = forms.torch_module(inputs)
    stored = load_file(tmp_path / "adapter.safetensors")
    module.load_state_dict({name: torch.tensor(x) for name, x in stored.items()}, strict=True)
    arrays = [inputs[name] for name in ("text", "support", "mask")]
    theirs = forms.torch_refine(module, *map(torch.tensor, arrays), heads=1, text_in_keys=True)
    mine = refine(params, *map(jnp.asarray, arrays))
    np.testing.assert_allclose(mine, theirs.detach().numpy(), atol=1e-6)


def test_a_file_of_linear_layers_loads_here(tmp_path):
    pytest.importorskip("torch")
    from safetensors.torch import save_file

    inputs = forms.refine_inputs()
    save_file(forms.torch_module(inputs).state_dict(), tmp_path / "published.safetensors")
    name, params, _ = load_adapter(tmp_path / "published.safetensors", dim=24)
    assert name == "meta_adapter"
    jax.tree.map(np.testing.assert_array_equal, params, nested(inputs))


def test_at_the_start_it_is_nearly_the_text_prototype():
    task, query = example_task(way=7, shot=3, query=50, dim=512)
    key = jax.random.key(0)
    logits = []
    for name in ("meta_adapter", "text_prototype"):
        adapter = get_adapter(name)
        params = adapter.init(key, 512)
        logits.append(adapter.logits(adapter.fit(params, task, key), query.features))
    # Logits reach tens; the gate's spread and the nearly even attention leave tenths.
    np.testing.assert_allclose(logits[0], logits[1], atol=0.5)


def test_sharp_attention_picks_the_shot_that_resembles_the_text():
    task, _ = example_task(way=4, shot=3, dim=8)
    params = init_params(jax.random.key(0), 8)
    sharp = {
        **params,
        "q_proj": {"weight": 1e3 * jnp.eye(8)},
        "k_proj": {"weight": 1e3 * jnp.eye(8)},
        "alpha_proj": {"weight": jnp.zeros((1, 8)), "bias": jnp.full((1,), 1e4)},
    }
    refined = refine(sharp, task.text, task.support, task.support_mask, text_in_keys=False)
    nearest = jnp.argmax(jnp.einsum("wd,wsd->ws", task.text, task.support), axis=1)
    expected = task.text + task.support[jnp.arange(4), nearest]
    expected = expected / jnp.linalg.norm(expected, axis=-1, keepdims=True)
    np.testing.assert_allclose(refined, expected, atol=1e-6)


def test_heads_must_divide_the_width():
    task, _ = example_task(dim=8)
    with pytest.raises(ValueError, match="3 heads do not divide 8 features"):
        refine(
            init_params(jax.random.key(0), 8), task.text, task.support, task.support_mask, heads=3
        )


def test_module_equals_the_function_and_is_trainable():
    task, _ = example_task(way=3, dim=8)
    module = MetaAdapterModule(8, heads=2, rngs=nnx.Rngs(5))
    graphdef, state = nnx.split(module)
    assert {".".join(map(str, path)) for path, _ in nnx.to_flat_state(state)} == set(NAMES)
    arrays = (task.text, task.support, task.support_mask)

    @jax.jit
    def total(state):
        return nnx.merge(graphdef, state)(*arrays).sum()

    params = nnx.to_pure_dict(state)
    expected = refine(params, *arrays, heads=2)
    np.testing.assert_allclose(module(*arrays), expected, atol=1e-6)
    gradients = jax.grad(total)(state)
    assert all(float(jnp.abs(g).max()) > 0 for g in jax.tree.leaves(gradients))


def test_the_shots_are_never_projected():
    way, shot, dim = 3, 16, 32
    task, _ = example_task(way=way, shot=shot, dim=dim)
    params = init_params(jax.random.key(0), dim)
    jaxpr = jax.make_jaxpr(refine)(params, task.text, task.support, task.support_mask)
    projections = [
        equation
        for equation in jaxpr.jaxpr.eqns
        if equation.primitive.name == "dot_general"
        and any(v.aval.shape == (dim, dim) for v in equation.invars)
    ]
    assert len(projections) == 2
    for equation in projections:
        assert equation.outvars[0].aval.shape == (way, dim)
