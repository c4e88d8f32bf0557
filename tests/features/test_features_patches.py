"""Patches in a bank: those of view 0 of the right image, and nothing where nobody asked."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from sample_banks import description, random_rows
from tiny_clip import noise, noise_source, tiny_backbone

from fsclip_jax.clip.model import encode_patches
from fsclip_jax.errors import UserError
from fsclip_jax.features.extract import extract, identity
from fsclip_jax.features.layout import Rows
from fsclip_jax.features.shards import ExtractSettings
from fsclip_jax.features.show import bank_facts
from fsclip_jax.features.store import open_bank
from fsclip_jax.features.writing import write_bank


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def with_patches(count=4, **sizes):
    rows = random_rows(**sizes)
    n, dim = rows.features.shape[1:]
    patches = np.random.default_rng(5).normal(size=(n, count, dim)).astype(np.float16)
    return Rows(rows.features, rows.labels, rows.splits, rows.keys, rows.domains, patches)


def test_extracted_patches_are_those_of_view_0(backbone, tmp_path):
    # A batch of 4 rows holds views of two or three images, a shard ends within a batch.
    settings = ExtractSettings(views=3, dtype="float32", shard=5, batch=4, patches=True)
    bank = extract(noise_source(7, unreadable={2}), backbone, tmp_path / "bank", settings)
    kept = [0, 1, 3, 4, 5, 6]
    crops = np.stack([backbone.preprocess.crop(noise(index)) for index in kept])
    pixels = backbone.preprocess.normalize(crops)
    whole, patches = encode_patches(backbone.graphdef, backbone.state, jnp.asarray(pixels))
    patches = np.asarray(patches / jnp.linalg.norm(patches, axis=-1, keepdims=True))
    whole = np.asarray(whole / jnp.linalg.norm(whole, axis=-1, keepdims=True))
    assert bank.patches == 4
    assert len(bank.shards) == 2
    np.testing.assert_allclose(bank.read_patches(np.arange(6)), patches, atol=1e-3)
    np.testing.assert_allclose(bank.features[0], whole, atol=1e-5)
    np.testing.assert_allclose(bank.read_patches(np.array([1, 5])), patches[[1, 5]], atol=1e-3)
    open_bank(bank.path, verify=True)


def test_a_bank_without_patches_is_as_it_always_was(backbone, tmp_path):
    source = noise_source(3)
    bank = extract(source, backbone, tmp_path / "bank", ExtractSettings())
    assert bank.patches == 0
    assert "patches" not in bank.manifest
    assert "locals" not in bank.manifest["settings"]
    asked = identity(source, backbone, ExtractSettings(patches=True))
    assert asked != identity(source, backbone, ExtractSettings())
    with pytest.raises(UserError, match=r"holds no patches.*fsclip extract --patches"):
        bank.select(["train"], patches=True)


def test_selected_patches_follow_their_image_and_stay_out_unless_asked_for(tmp_path):
    rows = with_patches(n=11)
    stored = write_bank(tmp_path / "bank", rows, description(), shard=4, dtype="float32")
    splits = ["train", "test"]
    assert stored.select(splits).patches is None
    bank = stored.select(splits, np.array([3, 0, 1]), patches=True)
    assert bank.patches.dtype == jnp.float16
    own = np.abs(np.asarray(bank.features[0])[:, None] - rows.features[0][None]).max(-1).argmin(1)
    np.testing.assert_array_equal(bank.patches, rows.patches[own])
    assert bank_facts(stored)["patches"] == "4 of view 0"


@pytest.mark.parametrize("patches", [3, "4", 0, True])
def test_a_number_of_patches_that_is_not_in_the_shards_is_damage(tmp_path, patches):
    write_bank(tmp_path / "bank", with_patches(), description())
    file = tmp_path / "bank" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"patches": patches}))
    with pytest.raises(UserError, match=r"patches( is|`)"):
        open_bank(tmp_path / "bank")


def test_a_patch_that_is_not_finite_is_told_when_it_is_read(tmp_path):
    rows = with_patches()
    rows.patches[3, 1] = np.nan
    stored = write_bank(tmp_path / "bank", rows, description())
    with pytest.raises(UserError, match="patch that is not finite"):
        stored.read_patches(np.arange(5))
