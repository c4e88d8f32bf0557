"""No encoder hands on what is not finite."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fsclip_jax.clip.load import load_clip
from fsclip_jax.errors import UserError
from fsclip_jax.features.images import Batcher, image_encoder
from fsclip_jax.features.text import encode_prompts
from fsclip_jax.prediction.images import encode_pixels


@pytest.fixture(scope="module")
def spoilt():
    backbone = load_clip("mini")
    state = jax.tree.map(lambda leaf: leaf * jnp.inf, backbone.state)
    return dataclasses.replace(backbone, state=state)


def by_pictures(spoilt, pixels):
    encode_pixels(image_encoder(spoilt), pixels, 4, spoilt.embed_dim)


def by_shards(spoilt, pixels):
    batcher = Batcher(image_encoder(spoilt), 4, 1, 1)
    batcher.add(0, pixels[:, None])
    batcher.end(0)
    list(batcher.finished(wait=True))


def by_prompts(spoilt, _):
    encode_prompts(spoilt, ["a photo of a cat"])


@pytest.mark.parametrize("by", [by_pictures, by_shards, by_prompts])
def test_what_is_not_finite_is_refused_in_a_line(by, spoilt):
    size = spoilt.preprocess.size
    pixels = np.random.RandomState(0).randint(0, 256, (3, size, size, 3)).astype(np.uint8)
    with pytest.raises(UserError, match="features that are not finite") as refused:
        by(spoilt, pixels)
    assert "\n" not in str(refused.value)
