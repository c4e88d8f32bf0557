"""Every command chooses methods by the same rules."""

import jax
import numpy as np
import pytest

from fsclip_jax.adapters.base import is_meta_learned, needs_of
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.adapters.checkpoint import save_adapter
from fsclip_jax.adapters.prototype import Prototype
from fsclip_jax.cli.main import main
from fsclip_jax.errors import UserError
from fsclip_jax.fitting.checkpoints import FeatureSpec, find_checkpoints
from fsclip_jax.fitting.inputs import not_given_by
from fsclip_jax.fitting.methods import choose_method, choose_methods, expand_names, usable_names
from fsclip_jax.scenes.build import build_scenes

DIM = 8
FEATURES = FeatureSpec(DIM)


def trained(folder, name="meta_adapter", dim=DIM, **meta):
    adapter = get_adapter(name)
    params = adapter.init(jax.random.key(3), dim)
    save_adapter(folder, name, params, {"dim": dim, **meta}, adapter=adapter)
    return folder


def names_of(chosen):
    return [method.name for method in chosen.methods]


def test_two_checkpoints_of_one_method_are_refused(tmp_path):
    both = [trained(tmp_path / "one"), trained(tmp_path / "two")]
    with pytest.raises(UserError, match="both hold a meta_adapter"):
        choose_methods(["meta_adapter"], FEATURES, both)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("choosing") / "scenes"
    build_scenes(folder, images=2, per_half=2)
    return folder


@pytest.mark.parametrize("command", ["detect", "segment", "eval", "suite"])
def test_every_command_refuses_two_checkpoints_of_one_method(
    scenes, tmp_path, capsys, command, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    dim, meta = 192, {"backbone": "mini"}
    both = [str(trained(tmp_path / name, dim=dim, **meta)) for name in ("one", "two")]
    flags = ["--checkpoint", *both, "--methods", "meta_adapter", "--out", str(tmp_path / "out")]
    where = ["--scenes", str(scenes)] if command in ("detect", "segment") else []
    few = ["--shots", "1", "--seeds", "1"]
    code = main([command, *where, *flags, *few])
    said = capsys.readouterr()
    assert code == (3 if command == "suite" else 2)  # other cells of a suite would go on
    assert "both hold a meta_adapter" in said.err + said.out.replace("\n", " ")


def test_a_checkpoint_in_the_workdir_is_read_only_where_a_method_needs_it(tmp_path):
    trained(tmp_path, dim=12)  # left by an experiment on other features
    plain = choose_methods(["zero_shot", "tip_adapter"], FEATURES, workdir=tmp_path)
    assert names_of(plain) == ["zero_shot", "tip_adapter"]
    untrained = choose_methods(["meta_adapter_untrained"], FEATURES, workdir=tmp_path)
    assert names_of(untrained) == ["meta_adapter_untrained"]
    other = choose_methods(["meta_prior"], FEATURES, workdir=tmp_path)
    assert names_of(other) == ["meta_prior_untrained"]
    with pytest.raises(UserError, match="dim 12"):
        choose_methods(["meta_adapter"], FEATURES, workdir=tmp_path)
    with pytest.raises(UserError, match="dim 12"):  # what is given by hand is always looked at
        choose_methods(["zero_shot"], FEATURES, [tmp_path])


def test_checkpoints_below_the_workdir_are_found_by_name(tmp_path):
    trained(tmp_path / "meta_adapter")
    trained(tmp_path / "meta_prior")
    found = find_checkpoints((), FEATURES, ["meta_prior"], tmp_path)
    assert [each.path for each in found] == [tmp_path / "meta_prior"]
    chosen = choose_methods(["meta_adapter"], FEATURES, workdir=tmp_path)
    assert names_of(chosen) == ["meta_adapter", "meta_adapter_untrained"]


def test_all_and_untrained_names_are_expanded():
    assert list(expand_names(["all"])) == list(ADAPTERS)
    assert expand_names(["meta_adapter_untrained", "all"])["meta_adapter_untrained"]
    assert expand_names(["all", "gda"])["gda"]
    assert not expand_names(["all"])["gda"]
    for wrong in ("gda_untrained", "nothing", "all_untrained"):
        with pytest.raises(UserError, match=r"no method named .*; the methods are zero_shot"):
            expand_names([wrong])


def test_a_single_method_is_chosen_by_the_same_rules(tmp_path):
    where = trained(tmp_path)
    start = choose_method("meta_adapter_untrained", FEATURES, default="gda")
    assert start.name == "meta_adapter_untrained"
    assert choose_method(None, FEATURES, default="gda").name == "gda"
    found = choose_method(None, FEATURES, where, default="gda")
    assert found.name == "meta_adapter"
    assert found.origin["checkpoint"] == str(where)
    same = jax.tree.map(np.array_equal, found.params, start.params)
    assert not all(jax.tree.leaves(same))  # the trained parameters, not the starting ones
    for name in ("gda", "meta_prior", "meta_adapter_untrained"):
        with pytest.raises(UserError, match="is of meta_adapter, not of"):
            choose_method(name, FEATURES, where, default="gda")
    with pytest.raises(UserError, match=r"--checkpoint .* or take meta_adapter_untrained"):
        choose_method("meta_adapter", FEATURES, default="gda")


def test_what_is_named_as_usable_is_accepted():
    missing = not_given_by("nothing gives")
    usable = usable_names(missing)
    for name in usable:
        assert choose_method(name, FEATURES, default="gda", missing=missing).name == name
    refused = set(ADAPTERS) - set(usable)
    assert refused == {
        name
        for name in ADAPTERS
        if needs_of(get_adapter(name)) or is_meta_learned(get_adapter(name))
    }
    with pytest.raises(UserError, match=", ".join(usable)):
        choose_method("coop", FEATURES, default="gda", missing=missing)


def test_what_trains_the_towers_is_refused_with_where_it_is_done():
    missing = not_given_by("a folder of pictures does not give")
    with pytest.raises(UserError, match="`fsclip export --format merged`") as caught:
        choose_method("clip_lora", FEATURES, default="gda", missing=missing)
    assert "\n" not in str(caught.value)


def test_a_method_that_does_not_apply_is_left_out_of_all_and_refused_by_name(monkeypatch):
    monkeypatch.setattr(Prototype, "needs", frozenset({"prompts"}), raising=False)
    missing = {"prompts": "no prompts here"}
    chosen = choose_methods(["all"], FeatureSpec(DIM), missing=missing)
    assert "prototype" not in [method.name for method in chosen.methods]
    assert chosen.left_out["prototype"] == "prototype: no prompts here"
    with pytest.raises(UserError, match="no prompts here; leave prototype out"):
        choose_methods(["prototype"], FeatureSpec(DIM), missing=missing)
    monkeypatch.setattr(Prototype, "needs", frozenset({"words"}))
    assert "ask for it by name" in choose_methods(["all"], FeatureSpec(DIM)).left_out["prototype"]
    chosen = choose_methods(["all", "prototype"], FeatureSpec(DIM))
    assert "prototype" in [method.name for method in chosen.methods]
    assert "prototype" not in chosen.left_out
