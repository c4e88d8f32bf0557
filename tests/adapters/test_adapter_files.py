"""Adapter files: whole or not there, checked on reading, never unpickled."""

import dataclasses
import errno
import json
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.adapters.checkpoint import load_adapter, restore_adapter, save_adapter
from fsclip_jax.errors import UserError

META = {"backbone": "mini", "backbone_sha256": "ab" * 32, "dim": 8, "steps": 100}


@pytest.fixture
def saved(tmp_path):
    adapter = get_adapter("meta_adapter", heads=2)
    params = adapter.init(jax.random.key(0), 8)
    save_adapter(tmp_path, "meta_adapter", params, META, adapter=adapter)
    return tmp_path


def refused(*words):
    """Expect a UserError of one line that holds every word."""

    def check(error):
        message = str(error)
        return "\n" not in message and all(word in message for word in words)

    return pytest.raises(UserError, check=check)


def test_round_trip(saved):
    adapter, params, meta = restore_adapter(saved, dim=8, backbone_sha256="ab" * 32)
    assert adapter == get_adapter("meta_adapter", heads=2)
    expected = adapter.init(jax.random.key(0), 8)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    assert {k: meta[k] for k in META} == META
    assert json.loads((saved / "adapter.json").read_text()) == meta


def test_scalars_and_methods_without_parameters(tmp_path):
    save_adapter(tmp_path / "a", "tip_adapter", {"alpha": 1.5, "beta": jnp.float32(2)}, {})
    name, params, _ = load_adapter(tmp_path / "a")
    assert (name, float(params["alpha"]), float(params["beta"])) == ("tip_adapter", 1.5, 2.0)
    save_adapter(tmp_path / "b", "zero_shot", {}, {})
    assert load_adapter(tmp_path / "b")[:2] == ("zero_shot", {})


@pytest.mark.parametrize("heads", ["2", 2.0, True, [2], None])
def test_a_setting_of_another_type_is_refused(tmp_path, heads):
    adapter = get_adapter("meta_adapter")
    meta = {**META, "config": {"heads": heads}}
    save_adapter(tmp_path, "meta_adapter", adapter.init(jax.random.key(0), 8), meta)
    with refused("heads", "something like 1"):
        load_adapter(tmp_path)


@pytest.mark.parametrize("name", ADAPTERS)
def test_settings_that_a_file_makes_huge_are_refused_and_usual_ones_are_not(tmp_path, name):
    adapter = get_adapter(name)
    params = adapter.init(jax.random.key(0), 8)
    save_adapter(tmp_path, name, params, {"dim": 8}, adapter=adapter)
    assert load_adapter(tmp_path)[0] == name
    for field in dataclasses.fields(adapter):
        usual = getattr(adapter, field.name)
        huge = {int: (10**10, -1, 2**63), float: (1e308, 10**400), tuple: ([1e308],)}
        for value in huge.get(type(usual), ()):
            save_adapter(tmp_path, name, params, {"dim": 8, "config": {field.name: value}})
            with refused(field.name, "train again"):
                load_adapter(tmp_path)


@pytest.mark.parametrize("dim", [10**9, 10**12, -5, 0, 2**70])
@pytest.mark.parametrize("name", ["meta_prior", "attn_adapter"])
def test_a_width_that_the_file_makes_up_is_refused(tmp_path, name, dim):
    params = get_adapter(name).init(jax.random.key(0), 16)
    save_adapter(tmp_path, name, params, {"dim": dim})
    with refused(str(tmp_path)):
        load_adapter(tmp_path)


def test_missing(tmp_path):
    with refused("no adapter at", "finished training run"):
        load_adapter(tmp_path / "nowhere")


@pytest.mark.parametrize("at", [0.02, 0.5, 0.98])
def test_a_changed_byte_is_noticed(saved, at):
    path = saved / "adapter.safetensors"
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 0x10
    path.write_bytes(content)
    with refused(str(path)):
        load_adapter(saved)


@pytest.mark.parametrize("kept", [0, 5, 300, -1])
def test_a_cut_file_is_noticed(saved, kept):
    path = saved / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with refused(str(path), "cannot be read"):
        load_adapter(saved)


def test_another_width(saved):
    with refused("dim 8", "dim 512", "backbone it was trained on"):
        load_adapter(saved, dim=512)


def test_another_backbone(saved):
    with refused("mini", "abababababab", "cdcdcdcdcdcd"):
        load_adapter(saved, backbone_sha256="cd" * 32)


def test_parameters_that_do_not_fit(tmp_path):
    params = get_adapter("meta_adapter").init(jax.random.key(0), 8)
    params["alpha_proj"]["weight"] = jnp.zeros((2, 8))
    params["extra"] = jnp.zeros(3)
    del params["k_proj"]
    save_adapter(tmp_path, "meta_adapter", params, {})
    with refused("alpha_proj.weight (2, 8)", "k_proj.weight missing", "extra"):
        load_adapter(tmp_path)


def test_an_unknown_method(tmp_path):
    save_adapter(tmp_path, "tip_adaptor", {}, {})
    with refused("'tip_adaptor'", "did you mean tip_adapter?"):
        load_adapter(tmp_path)


def test_a_pickle_is_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    (tmp_path / "adapter.safetensors").write_bytes(pickle.dumps(Bomb()))
    with refused("cannot be read"):
        load_adapter(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_a_full_disk_keeps_the_old_file(saved, monkeypatch):
    before = (saved / "adapter.safetensors").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with refused("no space left to write", "adapter.safetensors", "free some space"):
        save_adapter(saved, "zero_shot", {}, {})
    assert (saved / "adapter.safetensors").read_bytes() == before
    assert sorted(p.name for p in saved.iterdir()) == ["adapter.json", "adapter.safetensors"]


def test_the_new_file_appears_by_a_rename(saved, monkeypatch):
    before = (saved / "adapter.safetensors").read_bytes()
    renamed = []
    monkeypatch.setattr(os, "replace", lambda _, target: renamed.append(target))
    save_adapter(saved, "zero_shot", {}, {})
    assert [path.name for path in renamed] == ["adapter.safetensors", "adapter.json"]
    assert (saved / "adapter.safetensors").read_bytes() == before


def test_the_catalog_refuses_with_a_suggestion():
    with refused("'meta_adaptor'", *ADAPTERS, "did you mean meta_adapter?"):
        get_adapter("meta_adaptor")
    with refused("'head'", "heads, text_in_keys", "did you mean heads?"):
        get_adapter("meta_adapter", head=2)
    with refused("zero_shot", "none"):
        get_adapter("zero_shot", head=2)


@pytest.mark.parametrize("name", ["attn_adapter", "meta_prior"])
def test_the_width_of_a_method_without_published_names_is_told_by_its_description(name, tmp_path):
    params = get_adapter(name).init(jax.random.key(0), 12)
    save_adapter(tmp_path, name, params, {"dim": 12})
    _, loaded, _ = load_adapter(tmp_path)
    assert jax.tree.map(jnp.shape, loaded) == jax.tree.map(jnp.shape, params)
    with pytest.raises(UserError, match="for features of dim 12, these have dim 16"):
        load_adapter(tmp_path, dim=16)
