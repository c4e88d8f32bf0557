"""A CLIP with random weights and pictures of noise: enough to see what extraction does."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from PIL import Image

from fsclip_jax.clip.config import ClipConfig, TextConfig, VitConfig
from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.clip.model import init_clip
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.tokenizer import Tokenizer
from fsclip_jax.data.source import ImageSource, UnreadableImage
from fsclip_jax.features import images
from fsclip_jax.features import text as text_module

LENGTH = 8
VISION = VitConfig(32, 16, 24, 1, 3, 48, embed_dim=8)


def random_clip(config):
    """The bundled CLIP with towers of other shapes, whose weights are random."""
    graphdef, state = init_clip(config, 0)
    preprocess = Preprocess(config.vision.image_size)
    own = {"config": config, "graphdef": graphdef, "state": state, "preprocess": preprocess}
    return dataclasses.replace(load_clip("mini"), **own)


def letters(texts, **_):
    """Tokenize by letters: 62 starts, 63 ends and pads."""
    rows = [[62, *(ord(letter) % 60 for letter in text)][: LENGTH - 1] for text in texts]
    return {"input_ids": [row + [63] * (LENGTH - len(row)) for row in rows]}


def tiny_backbone(seed=0, vision=VISION):
    text = TextConfig(64, LENGTH, 16, 1, 2, 32, embed_dim=8)
    config = ClipConfig(vision, text)
    graphdef, state = init_clip(config, seed)
    return Backbone(
        id="tiny",
        sha256=f"{seed:064d}",
        config=config,
        graphdef=graphdef,
        state=state,
        preprocess=Preprocess(vision.image_size),
        tokenizer=Tokenizer(63, LENGTH, letters),
        logit_scale=50.0,
    )


def noise(index, width=50, height=40):
    pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def noise_source(n=11, classes=3, unreadable=(), families=0, version="1", opened=None):
    def load(index):
        if opened is not None:
            opened.append(index)
        if index in unreadable:
            raise UnreadableImage(f"img/{index}.png", "is cut short")
        return noise(index)

    return ImageSource(
        spec="noise",
        version=version,
        class_names=tuple(f"thing {label}" for label in range(classes)),
        labels=(np.arange(n) % classes).astype(np.int32),
        keys=tuple(f"img/{index}.png" for index in range(n)),
        splits=(np.arange(n) % 2).astype(np.int8),
        domains=(np.arange(n) % families).astype(np.int32) if families else None,
        domain_names=tuple(f"family {index}" for index in range(families)),
        templates=("a {}", "{} here"),
        load=load,
    )


def linear_towers(patch):
    """Put one random matrix in the place of each tower: the same contract, quick to compile.

    Args:
        patch: ``monkeypatch.setattr``, or ``setattr``.
    """
    image = np.random.default_rng(1).normal(size=(32 * 32 * 3, 8)).astype(np.float32)
    text = np.random.default_rng(2).normal(size=(64, 8)).astype(np.float32)

    def encode_image(_graphdef, _state, pixels):
        return pixels.reshape(len(pixels), -1) @ image

    def encode_text(_graphdef, _state, ids):
        return jnp.asarray(text)[ids].sum(1)

    patch(images, "encode_image", encode_image)
    patch(text_module, "encode_text", encode_text)
