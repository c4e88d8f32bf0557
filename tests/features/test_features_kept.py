import jax
import numpy as np
import pytest
from tiny_clip import VISION, tiny_backbone

from fsclip_jax.clip.config import ResNetConfig
from fsclip_jax.features import images
from fsclip_jax.features.images import image_encoder

RESNET = ResNetConfig((1, 1, 1, 1), 4, 32, 8, 4)


@pytest.mark.parametrize("vision", [VISION, RESNET])
@pytest.mark.parametrize("asked", [{}, {"features": "pre"}, {"patches": True}])
def test_a_kept_tower_gives_the_same_bits(compiled, vision, asked):
    backbone = tiny_backbone(vision=vision)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    plain = image_encoder(backbone, **asked)(pixels)
    for _ in range(2):
        kept = image_encoder(backbone, kept=True, **asked)(pixels)
        for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(plain), strict=True):
            np.testing.assert_array_equal(a, b)
        assert len(list(compiled.glob("traced-*"))) == 1


def test_a_tower_of_somebody_else_is_not_kept(compiled, monkeypatch):
    backbone = tiny_backbone()
    monkeypatch.setattr(images, "encode_image", lambda _graph, _state, x: x.reshape(len(x), -1))
    image_encoder(backbone, kept=True)(np.ones((2, 32, 32, 3), np.uint8))
    assert not list(compiled.glob("traced-*"))
