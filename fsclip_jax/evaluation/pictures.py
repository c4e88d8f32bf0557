"""The pictures behind a bank and the towers that made it, for methods that train these."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from PIL import Image

from fsclip_jax.clip.families import text_side
from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.clip.lora import FrozenImages
from fsclip_jax.clip.text import FrozenText
from fsclip_jax.data.registry import open_source
from fsclip_jax.data.source import ImageSource
from fsclip_jax.episodes.task import Towers, Words
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.prepare import Setting
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.decode import chunk_images, make_decoder, split_rows
from fsclip_jax.features.extract import ExtractSettings, prompts_of
from fsclip_jax.features.text import tokenize
from fsclip_jax.features.workers import decoded
from fsclip_jax.fitting.draws import Draws
from fsclip_jax.typing import Int, UInt8


@dataclass(frozen=True, eq=False)
class Pictures:
    """The pictures of a bank by its rows, and the towers with one prompt of every class."""

    source: ImageSource
    backbone: Backbone
    places: Int[np.ndarray, " n"]
    """Image of the source of each row of the bank."""
    towers: Towers = field(repr=False)


class Inputs(NamedTuple):
    """What methods need beyond a bank.

    Attributes:
        missing: why an input that methods may need is not at hand, by its name.
    """

    missing: dict[str, str]
    words: Words | None = None
    pictures: Pictures | None = None


NO_INPUTS = Inputs({})


def find_pictures(config: EvalConfig, stored: StoredBank) -> tuple[Pictures | None, str]:
    """Open the pictures of a bank and load its towers, or say why it cannot be."""
    if config.data.startswith("bank:"):
        return None, (
            "it trains the towers on pictures, and a bank holds features: give the pictures "
            "themselves, such as --data emoji, folder:DIR or coop:NAME@ROOT"
        )
    source, backbone = open_source(config.data), load_clip(config.backbone)
    if reason := trainable(backbone):
        return None, reason
    settings = ExtractSettings(templates=config.templates, prompt_file=config.prompt_file)
    prompts = [texts[0] for texts in prompts_of(source, backbone, settings).each]
    known = {key: place for place, key in enumerate(source.keys)}
    places = np.array([known[key] for key in stored.keys])
    return Pictures(source, backbone, places, towers_of(backbone, prompts)), ""


def trainable(backbone: Backbone) -> str:
    """Say why the towers of a backbone are not trained; nothing if they are."""
    if backbone.tokenizer is None:
        return f"{backbone.id} is an image tower without text"
    reason = text_side(backbone.config).no_prompts
    return f"{backbone.id} {reason}; the towers of CLIP alone are trained" if reason else ""


def towers_of(backbone: Backbone, prompts: Sequence[str]) -> Towers:
    """Freeze the towers of a CLIP, and tokenize one prompt a class."""
    ids = tokenize(backbone.reader(), prompts)
    ids = text_side(backbone.config).cut(ids, backbone.config.text)
    model = nnx.merge(backbone.graphdef, backbone.state)
    image = FrozenImages.of(model.vision, backbone.preprocess)
    return Towers(image, FrozenText.of(model.text), jnp.asarray(ids))


def pictured(setting: Setting, pictures: Pictures | None, views: int) -> Setting:
    """Return the same draws and queries with flat pixels in the place of features, on the device.

    The views of a shot are those that its features in the bank are of; they are made once.
    """
    assert pictures is not None
    assert setting.part is not None
    ids = pictures.towers.prompt_ids[setting.space.classes]

    def shown(draws: Draws, rows: Int[np.ndarray, "draw way shot"]) -> Draws:
        shots = read_pixels(pictures, rows, views)
        support = jnp.asarray(shots[..., 0, :])
        each = jnp.broadcast_to(ids, (len(shots), *ids.shape))
        task = draws.task._replace(
            support=support,
            views=jnp.asarray(shots) if views > 1 else None,
            towers=pictures.towers._replace(prompt_ids=each),
        )
        return draws._replace(task=task, plain=support)

    queries = {
        name: query._replace(
            features=jnp.asarray(read_pixels(pictures, setting.part.groups[name][1], 1)[:, 0])
        )
        for name, query in setting.queries.items()
    }
    part = setting.part
    others = {shots: shown(each, part.others[shots]) for shots, each in setting.others.items()}
    draws = shown(setting.draws, part.support)
    return setting._replace(draws=draws, others=others, queries=queries)


def read_pixels(
    pictures: Pictures, rows: Int[np.ndarray, "*n"], views: int
) -> UInt8[np.ndarray, "*n view values"]:
    """Decode the pictures of some rows of a bank; a row of -1 is black.

    Raises:
        UserError: one cannot be read.
    """
    wanted, back = np.unique(rows, return_inverse=True)
    there = wanted >= 0
    places, source = pictures.places[wanted[there]].tolist(), pictures.source
    some = replace(
        make_decoder(source, pictures.backbone.preprocess, views, 0),
        load=_Some(source.load, tuple(places)),
        keys=tuple(source.keys[place] for place in places),
    )
    size = chunk_images(pictures.backbone.preprocess, views)
    values = 3 * pictures.backbone.image_size**2
    pixels, low = np.zeros((len(wanted), views, values), np.uint8), int(len(wanted) - there.sum())
    with closing(decoded(some, list(split_rows(range(len(places)), size)))) as chunks:
        for chunk in chunks:
            if chunk.lost:
                raise UserError(
                    f"{chunk.lost[0][1]}; the towers learn from every picture: restore it, or take "
                    "it away"
                )
            pixels[low : low + len(chunk.pixels)] = chunk.pixels.reshape(-1, views, values)
            low += len(chunk.pixels)
    return pixels[back.reshape(rows.shape)]


@dataclass(frozen=True)
class _Some:
    """Reads some images of a source by their place among them."""

    load: Any
    places: tuple[int, ...]

    def __call__(self, index: int) -> Image.Image:
        image: Image.Image = self.load(self.places[index])
        return image
