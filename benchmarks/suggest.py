"""What labels of suggested pictures are worth, beside labels of pictures drawn by chance.

Tasks are drawn from the bundled art on the bundled CLIP: 40 classes, one or two labelled pictures
of each, a pool to choose from, and pictures of two artist families that nobody else has to ask.
Each rule names N pictures of the pool; they are labelled, and the classifier is fitted again and
asked. The rule of ``fsclip predict --suggest`` was chosen on one half of the classes (``--split
dev``); the other half (``--split test``) says what it is worth.

    python benchmarks/suggest.py                       # of the half that chose nothing
    python benchmarks/suggest.py --split dev --draws 8

Intervals are 95 % over draws (Student-t), of differences to chance over pairs of the same draw.
"""

import argparse
import os
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax.numpy as jnp
import numpy as np

from fsclip_jax.episodes.task import Task
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.features.extract import bank_for
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.draws import draws_of
from fsclip_jax.prediction.classifier import Classifier, answer, fit_support, methods_for_pictures
from fsclip_jax.prediction.suggest import margins, suggest
from fsclip_jax.report.intervals import confidence_interval, paired_difference

WAY, SLOTS, HELD_FAMILIES = 40, 16, 2
SETTINGS = ((1, 20), (1, 40), (2, 40))
"""Labelled pictures of each class to begin with, and labels that are added."""


class Pool(NamedTuple):
    """Pictures to choose from, and what is said of them."""

    features: np.ndarray
    shares: np.ndarray
    near: np.ndarray
    rng: np.random.Generator


def by_chance(pool: Pool, count: int) -> np.ndarray:
    return pool.rng.permutation(len(pool.features))[:count]


def by_margin(pool: Pool, count: int) -> np.ndarray:
    return np.argsort(margins(pool.shares), kind="stable")[:count]


def by_distance(pool: Pool, count: int, weight: float | np.ndarray = 1.0) -> np.ndarray:
    """The k-centre: whatever is farthest from all that is labelled or chosen."""
    near, chosen = pool.near.copy(), []
    for _ in range(count):
        gain = weight * (1 - near)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        near = np.maximum(near, pool.features @ pool.features[chosen[-1]])
    return np.array(chosen)


def by_both(pool: Pool, count: int) -> np.ndarray:
    return by_distance(pool, count, 1 - margins(pool.shares))


def by_coverage(pool: Pool, count: int) -> np.ndarray:
    return suggest(pool.features, pool.shares, pool.near, count)


RULES: dict[str, Callable[[Pool, int], np.ndarray]] = {
    "chance": by_chance,
    "margin": by_margin,
    "k-centre": by_distance,
    "margin x distance": by_both,
    "coverage (--suggest)": by_coverage,
}


class Drawn(NamedTuple):
    """Rows of a bank: labelled, to choose from, to ask; and their labels."""

    classes: np.ndarray
    labelled: np.ndarray
    pool: np.ndarray
    asked: np.ndarray


def draw(bank: StoredBank, split: str, start: int, rng: np.random.Generator) -> Drawn:
    half = np.random.default_rng(7).permutation(int(bank.labels.max()) + 1)
    half = half[: len(half) // 2] if split == "dev" else half[len(half) // 2 :]
    classes = rng.permutation(half)[:WAY]
    held = rng.permutation(np.unique(bank.domains))[:HELD_FAMILIES]
    parts: tuple[list[int], ...] = ([], [], [])
    for label in classes:
        rows = rng.permutation(np.flatnonzero(bank.labels == label))
        foreign = np.isin(bank.domains[rows], held)
        for part, more in zip(
            parts, (rows[~foreign][:start], rows[~foreign][start:], rows[foreign]), strict=True
        ):
            part.extend(more.tolist())
    return Drawn(classes, *(np.array(part) for part in parts))


def fit(bank: StoredBank, rows: np.ndarray, classes: np.ndarray) -> Classifier:
    """Fit to some labelled pictures; always in as many slots, so that one compile serves all."""
    support = np.zeros((WAY, SLOTS, bank.dim), np.float32)
    mask = np.zeros((WAY, SLOTS), bool)
    for place, label in enumerate(classes):
        own = rows[bank.labels[rows] == label][:SLOTS]
        support[place, : len(own)] = bank.features[0, own]
        mask[place, : len(own)] = True
    text = jnp.asarray(bank.text_features[classes])
    scale = jnp.full((1,), bank.logit_scale, jnp.float32)
    draws = draws_of(Task(jnp.asarray(support)[None], jnp.asarray(mask)[None], text[None], scale))
    methods = methods_for_pictures("linear_probe", FeatureSpec(bank.dim), None)
    return fit_support(draws, [str(label) for label in classes], methods)


def accuracy(bank: StoredBank, classifier: Classifier, drawn: Drawn) -> float:
    found = answer(classifier, bank.features[0, drawn.asked]).probabilities.argmax(-1)
    return 100 * float(np.mean(drawn.classes[found] == bank.labels[drawn.asked]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--draws", type=int, default=8)
    asked = parser.parse_args()
    bank = bank_for("emoji", "mini")
    for start, count in SETTINGS:
        found: dict[str, list[float]] = {"none": [], **{name: [] for name in RULES}}
        for seed in range(asked.draws):
            rng = np.random.default_rng(seed)
            drawn = draw(bank, asked.split, start, rng)
            before = fit(bank, drawn.labelled, drawn.classes)
            found["none"].append(accuracy(bank, before, drawn))
            features = bank.features[0, drawn.pool]
            said = answer(before, features)
            for name, rule in RULES.items():
                chosen = rule(Pool(features, said.probabilities, said.similarity, rng), count)
                rows = np.concatenate([drawn.labelled, drawn.pool[chosen]])
                found[name].append(accuracy(bank, fit(bank, rows, drawn.classes), drawn))
        print(f"{asked.split}: {WAY} classes, {start} labelled of each, {count} labels added")
        for name, values in found.items():
            mean, half = confidence_interval(values)
            gain, spread = paired_difference(values, found["chance"])
            print(f"  {name:<22}{mean:6.1f} ±{half:<5.1f}{gain:+6.1f} ±{spread:.1f}", flush=True)


if __name__ == "__main__":
    main()
