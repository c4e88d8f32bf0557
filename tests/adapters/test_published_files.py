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


@pytest.mark.parametrize("prefix", ["", "meta_adapter.", "module.model._orig_mod.meta_adapter."])
@pytest.mark.parametrize("name", ["a.pth.tar-50", "b.ckpt", "c.safetensors", "folder"])
def test_what_training_wraps_around_it_is_taken_off(tmp_path, prefix, name):
    from safetensors.torch import save_file

    module = meta_adapter_torch.MetaAdapter(8)
    tensors = {f"{prefix}{key}": tensor for key, tensor in module.state_dict().items()}
    path = tmp_path / ("last.pth" if name == "folder" else name)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save({"epoch": 1, "model_state_dict": tensors}, path)
    task, query = example_task(way=3)
    given = tmp_path if name == "folder" else path
    np.testing.assert_allclose(answers(given, task, query), theirs(module, task, query), atol=1e-4)


def test_a_file_of_another_kind_is_not_to_be_trained_again(tmp_path):
    (tmp_path / "notes.safetensors").write_text("hello")
    torch.save({"visual.conv1.weight": torch.zeros(2)}, tmp_path / "clip.pt")
    np.savez(tmp_path / "features.npz", features=np.zeros((2, 2)))
    for name in ("notes.safetensors", "clip.pt", "features.npz"):
        with pytest.raises(UserError) as caught:
            load_adapter(tmp_path / name)
        assert "train again" not in str(caught.value)
        assert "give the folder of a training run" in str(caught.value)
    with pytest.raises(UserError, match=r"several files of weights, clip.pt, notes.safetensors"):
        load_adapter(tmp_path)
    with pytest.raises(UserError, match=r"this visual.conv1.weight; .*CLIP to --backbone"):
        load_adapter(tmp_path / "clip.pt")


@pytest.mark.parametrize("cut", [20, 300, 700, 1200])
def test_a_file_cut_short_is_one_line(tmp_path, cut):
    path = tmp_path / "short.pt"
    torch.save(
        meta_adapter_torch.MetaAdapter(8).state_dict(), path, _use_new_zipfile_serialization=False
    )
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"^[^\n]*short\.pt is [^\n]*$"):
        load_adapter(path)
