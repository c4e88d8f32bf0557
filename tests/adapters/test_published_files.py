"""The published Meta-Adapter's state dict, as PyTorch saves it, here and back again."""

import pickle

import jax
import meta_adapter_torch
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import example_task, get_adapter
from fsclip_jax.adapters.checkpoint import load_adapter, restore_adapter, save_adapter
from fsclip_jax.errors import UserError

torch = pytest.importorskip("torch")


def answers(path, task, query):
    adapter, params, _ = restore_adapter(path, dim=8)
    state = adapter.fit(params, task, jax.random.key(0))
    return np.asarray(adapter.logits(state, query.features))


def theirs(module, task, query):
    def tensor(array):
        return torch.tensor(np.array(array))

    with torch.no_grad():
        weights = module(tensor(task.text), tensor(task.support))
        return 100 * (tensor(query.features) @ weights.T).numpy()


@pytest.mark.parametrize("ending", [".pt", ".pth"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("parallel", [True, False])
def test_a_state_dict_of_pytorch_loads_here(tmp_path, ending, zipped, parallel):
    module = meta_adapter_torch.MetaAdapter(8)
    tensors = module.state_dict()
    if parallel:
        tensors = torch.nn.DataParallel(module).state_dict()
    path = tmp_path / f"published{ending}"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    task, query = example_task(way=3)
    np.testing.assert_allclose(answers(path, task, query), theirs(module, task, query), atol=1e-4)


def test_half_precision_becomes_float32(tmp_path):
    module = meta_adapter_torch.MetaAdapter(8).half()
    for zipped in (True, False):
        path = tmp_path / f"half{zipped}.pt"
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=zipped)
        _, params, _ = load_adapter(path)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
        weight = module.q_proj.weight.detach().float().numpy()
        np.testing.assert_array_equal(params["q_proj"]["weight"], weight)


def test_what_is_saved_here_loads_in_pytorch(tmp_path):
    from safetensors.torch import load_file

    adapter = get_adapter("meta_adapter")
    params = adapter.init(jax.random.key(3), 8)
    save_adapter(tmp_path, "meta_adapter", params, {"dim": 8}, adapter=adapter)
    module = meta_adapter_torch.MetaAdapter(8)
    module.load_state_dict(load_file(tmp_path / "adapter.safetensors"), strict=True)
    task, query = example_task(way=3)
    np.testing.assert_allclose(
        answers(tmp_path, task, query), theirs(module, task, query), atol=1e-4
    )


class Harm:
    def __reduce__(self):
        return (open, ("harmed", "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_file_is_refused_and_nothing_runs(tmp_path, monkeypatch, zipped):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "bad.pt"
    tensors = {**meta_adapter_torch.MetaAdapter(8).state_dict(), "extra": Harm()}
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"refused: it asks for .*open"):
        restore_adapter(path)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Harm(), 2))
    with pytest.raises(UserError, match="bare pickle"):
        restore_adapter(tmp_path / "bare.pt")
    assert not (tmp_path / "harmed").exists()


def test_another_state_dict_is_told_from_it(tmp_path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    with pytest.raises(UserError, match=r"no published Meta-Adapter.*alpha_proj.bias"):
        restore_adapter(tmp_path / "linear.pt")
    torch.save(meta_adapter_torch.MetaAdapter(16).state_dict(), tmp_path / "wide.pt")
    with pytest.raises(UserError, match="is for features of dim 16, these have dim 8"):
        restore_adapter(tmp_path / "wide.pt", dim=8)


@pytest.mark.parametrize("cut", [20, 300, 700, 1200])
def test_a_file_cut_short_is_one_line(tmp_path, cut):
    path = tmp_path / "short.pt"
    torch.save(
        meta_adapter_torch.MetaAdapter(8).state_dict(), path, _use_new_zipfile_serialization=False
    )
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"^[^\n]*short\.pt is [^\n]*$"):
        load_adapter(path)
