"""What is said of a fit to few labelled pictures, measured: method, certainty, unknown, mistakes.

Tasks are drawn again and again: some classes, some labelled pictures of each, other pictures to
ask, and pictures of classes that were left out. The art comes along, on the bundled CLIP, one
picture of each artist family at most; photographs are features of Caltech-101 (plain views) and
ImageNet on a ViT-B/32, where they are found in ``../shared/features``.

    python benchmarks/few_pictures.py                  # all tables
    python benchmarks/few_pictures.py --draws 3 --tables auto certainty

Intervals are 95 % over draws (Student-t); of differences, over pairs of the same draw.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from scipy.stats import rankdata

from fsclip_jax.episodes.task import Task
from fsclip_jax.evaluation.metrics import Judged, calibration_error
from fsclip_jax.features.extract import bank_for
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.draws import Draws, draws_of
from fsclip_jax.fitting.fitted import logits_of
from fsclip_jax.prediction.classifier import (
    Classifier,
    answer,
    fit_support,
    methods_for_pictures,
)
from fsclip_jax.prediction.held_out import BATCH
from fsclip_jax.prediction.unknown import score
from fsclip_jax.report.intervals import confidence_interval, paired_difference

FEATURES = Path(__file__).parents[2] / "shared" / "features"
FOREIGN, QUERIES = 600, 6


class Data(NamedTuple):
    """Features of pictures with labels, and of the names of their classes."""

    name: str
    features: np.ndarray
    labels: np.ndarray
    families: np.ndarray | None
    text: np.ndarray
    scale: float


class Drawn(NamedTuple):
    """A task, pictures to ask with their labels, and pictures of none of its classes."""

    draws: Draws
    queries: np.ndarray
    labels: np.ndarray
    foreign: np.ndarray


class Setting(NamedTuple):
    """A task to draw again and again."""

    data: Data
    way: int
    shots: int

    def __str__(self) -> str:
        return f"{self.data.name:<10}{self.way:>5}{self.shots:>6}"


def open_data(folder: Path) -> list[Data]:
    bank = bank_for("emoji", "mini")
    art = bank.features[0], bank.labels, bank.domains, bank.text_features, bank.logit_scale
    found = [Data("emoji", *art)]
    for name, file, split in (
        ("Caltech", "caltech67_vitb32.npz", "val"),
        ("ImageNet", "imagenet_vitb32.npz", "train"),
    ):
        if not (folder / file).is_file():
            print(f"{name} is left out: there is no {folder / file}")
            continue
        with np.load(folder / file) as stored:
            kept = stored["split"] == split
            features = stored["features"][kept].astype(np.float32)
            features /= np.linalg.norm(features, axis=-1, keepdims=True)
            found.append(
                Data(name, features, stored["labels"][kept], None, stored["text_features"], 100.0)
            )
    return found


def settings_of(data: list[Data]) -> Iterator[Setting]:
    for each in data:
        many = {"Caltech": 60}.get(each.name, 100)
        for way in (10, many):
            for shots in (1, 2, 4, 8, 16):
                if enough(each, shots) >= (way if way == 10 else 30):
                    yield Setting(each, min(way, enough(each, shots)), shots)


def enough(data: Data, shots: int) -> int:
    """Count the classes that have so many pictures, and one to ask."""
    rows = rows_of(data, np.random.default_rng(0))
    return sum(len(each) > shots for each in rows)


def rows_of(data: Data, rng: np.random.Generator) -> list[np.ndarray]:
    """Shuffle the pictures of every class, one of each artist family."""
    found = []
    for label in range(data.labels.max() + 1):
        rows = rng.permutation(np.flatnonzero(data.labels == label))
        if data.families is not None:
            rows = rng.permutation(rows[np.unique(data.families[rows], return_index=True)[1]])
        found.append(rows)
    return found


def draw(setting: Setting, seed: int) -> Drawn:
    data, way, shots = setting
    rng = np.random.default_rng(seed)
    rows = rows_of(data, rng)
    fit = [label for label, each in enumerate(rows) if len(each) > shots]
    classes = rng.permutation(fit)[:way]
    others = [each for label, each in enumerate(rows) if label not in set(classes.tolist())]
    asked = [rows[label][shots : shots + QUERIES] for label in classes]
    support = data.features[np.stack([rows[label][:shots] for label in classes])]
    task = Task(
        jnp.asarray(support)[None],
        jnp.ones((1, way, shots), bool),
        jnp.asarray(data.text[classes])[None],
        jnp.full((1,), data.scale, jnp.float32),
    )
    foreign = rng.permutation(np.concatenate([*others, np.zeros(0, int)]).astype(int))[:FOREIGN]
    return Drawn(
        draws_of(task),
        data.features[np.concatenate(asked)],
        np.repeat(np.arange(way), [len(each) for each in asked]),
        data.features[foreign],
    )


def fit(drawn: Drawn, name: str) -> Classifier:
    draws = drawn.draws
    spec = FeatureSpec(draws.task.text.shape[-1])
    names = [str(number) for number in range(draws.task.text.shape[1])]
    return fit_support(draws, names, methods_for_pictures(name, spec, None))


def logits(classifier: Classifier, features: np.ndarray) -> np.ndarray:
    (found,) = logits_of(classifier.fitted, features, BATCH)
    return found


def accuracy(classifier: Classifier, drawn: Drawn) -> float:
    right = logits(classifier, drawn.queries).argmax(-1) == drawn.labels
    return 100 * float(right.mean())


def shown(values: Any) -> str:
    mean, half = values
    return f"{mean:>7.1f}" + (f" ±{half:<4.1f}" if half is not None else "      ")


def auto_table(every: list[Drawn]) -> str:
    """Accuracy of the default, what ``auto`` adds, how held-out pictures foretold it, the time."""
    rows = []
    for drawn in every:
        timed = []
        for name in ("linear_probe", "auto"):
            fit(drawn, name)  # compiles
            start = time.perf_counter()
            classifier = fit(drawn, name)
            timed.append((classifier, time.perf_counter() - start))
        (plain, plain_s), (best, best_s) = timed
        foretold = best.quality.held_out.score.accuracy
        rows.append((accuracy(plain, drawn), accuracy(best, drawn), foretold, plain_s, best_s))
    plain, best, foretold, plain_s, best_s = zip(*rows, strict=True)
    told = shown(confidence_interval(foretold)) if foretold[0] is not None else f"{'-':>7}      "
    return (
        shown(confidence_interval(plain)) + shown(confidence_interval(best))
        + shown(paired_difference(best, plain)) + told
        + f"{np.median(plain_s):>8.2f}{np.median(best_s):>7.2f}"
    )  # fmt: skip


AUTO = f"{'default, %':>12} {'auto, %':>12} {'gain':>12} {'held out, %':>13}{'s':>7}{'s':>7}"


def former_temperature(held_logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature before there was a prior: 1 below 20 pictures, else the most likely one."""
    if len(labels) < 20:
        return 1.0

    def nll(log_temperature: float) -> float:
        logs = log_softmax(held_logits.astype(np.float64) / np.exp(log_temperature), axis=-1)
        return -float(logs[np.arange(len(labels)), labels].mean())

    found = minimize_scalar(nll, bounds=(np.log(0.05), np.log(20)), method="bounded")
    return float(np.exp(found.x)) if found.fun < nll(0.0) else 1.0


def certainty_table(every: list[Drawn]) -> str:
    """Calibration error of the default over all draws, likelihood, share of 1.0000."""
    columns: dict[str, list[np.ndarray]] = {"before": [], "after": []}
    labels = np.concatenate([drawn.labels for drawn in every])
    for drawn in every:
        classifier = fit(drawn, "linear_probe")
        held, asked = classifier.labelled.held, logits(classifier, drawn.queries)
        former = former_temperature(held.logits, held.labels)
        columns["before"].append(np.exp(log_softmax(asked / former, axis=-1)))
        columns["after"].append(answer(classifier, drawn.queries).probabilities)
    cells = []
    for shares in map(np.concatenate, columns.values()):
        own = np.maximum(shares[np.arange(len(labels)), labels], 1e-30)
        best = np.minimum(shares.max(-1), 1)
        judged = Judged(shares.argmax(-1), best, -np.log(own), labels, np.ones(len(labels), bool))
        sure = 100 * np.mean(best >= 0.99995)
        cells.append(
            f"{float(calibration_error(judged)):>9.1f}{judged.nll.mean():>7.2f}{sure:>8.1f}"
        )
    return "".join(cells)


CERTAINTY = f"{'ECE':>9}{'nll':>7}{'1.0000':>8}{'ECE':>9}{'nll':>7}{'1.0000':>8}"


def auroc(known: np.ndarray, foreign: np.ndarray) -> float:
    ranks = rankdata(np.concatenate([known, foreign]))[: len(known)]
    return float((ranks.mean() - (len(known) + 1) / 2) / len(foreign))


def unknown_table(every: list[Drawn]) -> str:
    """AUROC of each score on the default, and what ``--unknown auto`` keeps and catches, in %."""
    rows = []
    for drawn in every:
        classifier = fit(drawn, "linear_probe")
        unknown = "auto" if classifier.familiar else 0.0
        sides = [drawn.queries, drawn.foreign]
        told = [answer(classifier, side, unknown) for side in sides]
        asked = [logits(classifier, side) for side in sides]
        scores = [
            [log_softmax(each, axis=-1).max(-1) for each in asked],
            [each.similarity for each in told],
            [logsumexp(each, axis=-1) for each in asked],
        ]
        caught = [np.nan] * 3
        if (familiar := classifier.familiar) is not None:
            sides = zip(asked, told, strict=True)
            together = [score(one, other.similarity, familiar) for one, other in sides]
            kept, rest = (100 * float(each.known.mean()) for each in told)
            caught = [100 * auroc(*together), kept, 100 - rest]
        rows.append([*(100 * auroc(*each) for each in scores), *caught])
    means = np.mean(rows, axis=0)
    return "".join(f"{'-':>9}" if np.isnan(mean) else f"{mean:>9.1f}" for mean in means)


UNKNOWN = "".join(
    f"{name:>9}" for name in ("softmax", "cosine", "energy", "auto", "kept", "caught")
)


def mislabelled_table(every: list[Drawn]) -> str:
    """Exchange 5 % of the labels, two at least: how many are found, among how many."""
    found = flagged = planted = 0
    for seed, drawn in enumerate(every):
        support = np.asarray(drawn.draws.task.support)[0].copy()
        way, shots, dim = support.shape
        flat, rng = support.reshape(-1, dim), np.random.default_rng(seed)
        wrong: set[int] = set()
        while len(wrong) < max(2, 0.05 * way * shots):
            one, other = rng.integers(way * shots, size=2).tolist()
            if one // shots != other // shots and not wrong & {one, other}:
                flat[[one, other]] = flat[[other, one]]
                wrong |= {one, other}
        task = drawn.draws.task._replace(support=jnp.asarray(support)[None])
        quality = fit(drawn._replace(draws=draws_of(task)), "linear_probe").quality
        told = {int(one.picture) for one in quality.mislabelled}
        found, flagged, planted = (
            found + len(told & wrong), flagged + len(told), planted + len(wrong)
        )  # fmt: skip
    return f"{planted:>9}{found:>9}{flagged:>9}"


MISLABELLED = f"{'planted':>9}{'found':>9}{'listed':>9}"

Table = Callable[[list[Drawn]], str]
TABLES: dict[str, tuple[Table, str, tuple[int, ...]]] = {
    "auto": (auto_table, AUTO, (1, 2, 4, 8, 16)),
    "certainty": (certainty_table, CERTAINTY, (1, 2, 4, 8)),
    "unknown": (unknown_table, UNKNOWN, (1, 2, 4, 8, 16)),
    "mislabelled": (mislabelled_table, MISLABELLED, (3, 4, 8, 16)),
}


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tables", nargs="+", default=list(TABLES), choices=list(TABLES))
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--features", type=Path, default=FEATURES)
    given = parser.parse_args()
    settings = list(settings_of(open_data(given.features)))
    for name in given.tables:
        table, header, shots = TABLES[name]
        print(f"\n{name}: {' '.join((table.__doc__ or '').split())}")
        print(f"{'':<10}{'way':>5}{'shots':>6}{header}", flush=True)
        for setting in settings:
            if setting.shots in shots:
                every = [draw(setting, seed) for seed in range(given.draws)]
                print(f"{setting}{table(every)}", flush=True)
                jax.clear_caches()


if __name__ == "__main__":
    main()
