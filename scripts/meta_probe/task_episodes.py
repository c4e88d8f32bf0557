"""Episodes of many kinds of task, from features of photographs and of the bundled emoji."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from fsclip_jax.data.splits import base_novel
from fsclip_jax.features.extract import bank_for

MOST = 5
"""Shots a class, at most."""

SHOTS = (1, 1, 1, 1, 1, 2, 2, 3, 4, 5)
"""As often as they are drawn."""

GROUP, NEIGHBOURS = 0.5, 0.25
"""Shares of tasks of one group, and of classes whose texts are alike; the rest are any classes."""


class Pool(NamedTuple):
    """Classes to draw tasks from.

    Attributes:
        rows: of every class the pictures among ``features``, by artist (emoji) or by picture.
        groups: classes that are alike, by their place among ``rows``.
        near: cosines of texts.
    """

    features: np.ndarray
    text: np.ndarray
    rows: list[list[np.ndarray]]
    groups: list[np.ndarray]
    near: np.ndarray
    scale: float


class Episodes(NamedTuple):
    """Tasks of one shape, and what is asked of each."""

    support: np.ndarray
    mask: np.ndarray
    text: np.ndarray
    scale: np.ndarray
    query: np.ndarray


def photographs(path: Path, groups: dict[str, np.ndarray]) -> Pool:
    """Read unit features [N dim] with their labels and text from an npz."""
    with np.load(path) as stored:
        features, text = _unit(stored["features"]), _unit(stored["text_features"])
        labels = stored["labels"]
    classes = np.concatenate(list(groups.values()))
    rows = [[np.array([row]) for row in np.flatnonzero(labels == each)] for each in classes]
    place = {each: index for index, each in enumerate(classes)}
    within = [np.array([place[each] for each in group]) for group in groups.values()]
    text = text[classes]
    return Pool(features, text, rows, within, text @ text.T, 100.0)


def emoji(part: str = "train", artists_at_least: int = MOST) -> Pool:
    """Read a part of the bundled emoji's classes on the mini CLIP, with enough artists each.

    Of the base classes every second is ``train``, the others ``development``; ``test`` are the
    novel ones.
    """
    bank = bank_for("emoji", "mini")
    base, novel = base_novel(len(bank.text_features))
    labels, artists = np.asarray(bank.labels), np.asarray(bank.domains)
    classes, rows = [], []
    for each in {"train": base[::2], "development": base[1::2], "test": novel}[part]:
        own = np.flatnonzero(labels == each)
        parts = [own[artists[own] == artist] for artist in np.unique(artists[own])]
        if len(parts) >= artists_at_least:
            classes.append(each)
            rows.append(parts)
    text = np.asarray(bank.text_features)[classes]
    features = np.asarray(bank.features[0], np.float32)
    groups = [np.arange(len(classes))]
    return Pool(features, text, rows, groups, text @ text.T, float(bank.logit_scale))


def draw(rng: np.random.Generator, pool: Pool, way: int, count: int) -> Episodes:
    """Draw tasks: classes of a group, neighbours or any; one to five shots, uneven in a fifth."""
    way = min(way, len(pool.text))
    return Episodes(*(np.stack(part) for part in zip(*(
        _one(rng, pool, way) for _ in range(count)
    ), strict=True)))  # fmt: skip


def _one(rng: np.random.Generator, pool: Pool, way: int) -> Episodes:
    classes = _classes(rng, pool, way)
    query = max(1, min(map(len, pool.rows)) - MOST)
    most = min(MOST, min(map(len, pool.rows)) - query)
    chosen = np.array([_pictures(rng, pool.rows[each], most + query) for each in classes])
    count = np.full(way, min(most, rng.choice(SHOTS)))
    if rng.random() < 0.2:
        count = rng.integers(int(rng.random() < 0.5), count[0] + 1, way)
    if count.sum() < 2:
        count[:] = 1
    mask = np.arange(most)[None] < count[:, None]
    support = pool.features[chosen[:, :most]] * mask[..., None]
    asked = pool.features[chosen[:, most:]].reshape(way * query, -1)
    return Episodes(support, mask, pool.text[classes], np.float32(pool.scale), asked)


def _classes(rng: np.random.Generator, pool: Pool, way: int) -> np.ndarray:
    kind, near = rng.random(), pool.near
    if kind < GROUP and len(pool.groups) > 1:
        classes = rng.permutation(pool.groups[rng.integers(len(pool.groups))])[:way]
        rest = np.argsort(-near[classes].mean(0))
        return np.concatenate([classes, rest[~np.isin(rest, classes)]])[:way]
    if kind < GROUP + NEIGHBOURS:
        noise = 0.1 * rng.random() * rng.standard_normal(len(near))
        return np.argsort(-near[rng.integers(len(near))] - noise)[:way]
    return rng.permutation(len(near))[:way]


def _pictures(rng: np.random.Generator, parts: list[np.ndarray], count: int) -> list[int]:
    return [int(rng.choice(parts[each])) for each in rng.permutation(len(parts))[:count]]


def alter(rng: np.random.Generator, tasks: Episodes) -> Episodes:
    """Give features another geometry, noise, or texts that are wrong: other backbones have them."""
    support, mask, text, scale, query = tasks
    if rng.random() < 0.4:
        mean = query.mean((0, 1)) * rng.uniform(-1.0, 0.9)
        support, query = support - mean, query - mean
    if rng.random() < 0.4:
        rank = text.shape[-1] // int(rng.choice([8, 4, 2]))
        axes = np.linalg.qr(rng.standard_normal((text.shape[-1], rank)))[0]
        support, text, query = ((x @ axes) @ axes.T for x in (support, text, query))
    support, text, query = _unit(support), _unit(text), _unit(query)
    if rng.random() < 0.4:
        size = rng.uniform(0.1, 0.7)
        support, query = _noisy(rng, support, size), _noisy(rng, query, size)
    if rng.random() < 0.5:
        text = _other_text(rng, text)
    scale = scale * np.exp(rng.uniform(-0.7, 0.7))
    return Episodes(support * mask[..., None], mask, text, scale, query)


def _other_text(rng: np.random.Generator, text: np.ndarray) -> np.ndarray:
    kind = rng.random()
    other = np.stack([rng.permutation(each) for each in text])
    if kind < 0.4:
        return _unit(text + rng.uniform(0.2, 1.0) * other)
    if kind < 0.7:
        return np.where(rng.random(text.shape[:2])[..., None] < rng.uniform(0.1, 0.7), other, text)
    return _noisy(rng, text, rng.uniform(0.3, 2.0))


def _noisy(rng: np.random.Generator, x: np.ndarray, size: float) -> np.ndarray:
    return _unit(x + size * rng.standard_normal(x.shape) / np.sqrt(x.shape[-1]))


def _unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float32)
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)


def reduce_width(tasks: Episodes) -> Episodes:
    """Turn features to the few axes that shots and text span: no logit changes, and it is quick."""
    support, mask, text, scale, query = tasks
    count, way, shot, dim = support.shape
    axes = np.linalg.qr(
        np.concatenate([support.reshape(count, way * shot, dim), text], axis=1).swapaxes(1, 2)
    )[0]
    if axes.shape[-1] >= dim:
        return tasks
    turned = (x @ axes for x in (support.reshape(count, way * shot, dim), text, query))
    support, text, query = (x.astype(np.float32) for x in turned)
    return Episodes(support.reshape(count, way, shot, -1), mask, text, scale, query)
