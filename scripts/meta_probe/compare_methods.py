"""Compare Meta-Probe with zero-shot and with the best method of every column; print the tables.

    python scripts/meta_probe/compare_methods.py --features ../shared/features --workdir DIR
    python scripts/meta_probe/compare_methods.py --features ../shared/features --workdir DIR --test

The columns are the development groups of ImageNet's classes and the base classes of emoji that
nothing was learned on, at 1, 2 and 4 shots, and the 67 classes of Caltech101 up to 16; with
``--test`` the groups and emoji to look at once. Every method has its fixed settings, as it is
before any meta-learning, and the same draws of classes, shots and queries.

A cell is the mean difference over the draws with its paired 95 % interval and, with ``--learned``
(``learned.json`` of ``train_meta_probe.py --workdir``), after a slash that of the mean over the
training seeds. The best is the one of this very sample, so it is partly luck.

What a method scored is kept in the workdir, a file a method: a run that was stopped goes on.
Meta-Probe is measured anew. 16 draws of all methods take about an hour of processor time.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from imagenet_groups import GROUPS
from scipy import stats
from task_episodes import Pool, emoji, photographs

from fsclip_jax.adapters.base import Adapter, needs_of
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.durable import write_file
from fsclip_jax.episodes.task import Prompts, Task
from fsclip_jax.features.projection import Projection
from fsclip_jax.typing import Array, Params

SHOTS, CALTECH_SHOTS = (1, 2, 4), (1, 2, 4, 8, 16)

WAYS = (59, 24, 17)
"""Classes of a draw: the first of these that a group of ImageNet has, and all of emoji. Few ways,
few programs to compile."""

MOST = max(SHOTS)


class Column(NamedTuple):
    """Draws of one kind of task at one number of shots, as the leading axis."""

    support: np.ndarray
    text: np.ndarray
    query: np.ndarray
    labels: np.ndarray
    scale: float


class Asked(NamedTuple):
    """A column by the kind of its tasks and its shots."""

    kind: str
    shots: int
    column: Column

    @property
    def key(self) -> str:
        """Its name among the kept scores."""
        return f"{self.kind} {self.shots}"


def of_pool(
    pool: Pool, group: np.ndarray, way: int, shots: int, draws: int, seed: Sequence[int]
) -> Column:
    """Draw classes of a group, and of each pictures that are its shots or are asked."""
    queries = min(3, min(map(len, pool.rows)) - MOST)
    rng, support, text, query = np.random.default_rng(seed), [], [], []
    for _ in range(draws):
        classes = rng.permutation(group)[:way]
        rows = np.array([one_an_artist(rng, pool.rows[each], MOST + queries) for each in classes])
        support.append(pool.features[rows[:, :shots]])
        text.append(pool.text[classes])
        query.append(pool.features[rows[:, MOST:].reshape(-1)])
    labels = np.repeat(np.arange(way), queries)
    return Column(np.stack(support), np.stack(text), np.stack(query), labels, pool.scale)


def one_an_artist(rng: np.random.Generator, parts: list[np.ndarray], count: int) -> np.ndarray:
    """Pictures of a class in any order, no two of one artist."""
    some = [part[0] if len(part) == 1 else rng.choice(part) for part in parts]
    return rng.permutation(some)[:count]


def of_caltech(path: Path, shots: int, draws: int) -> Column:
    """Draw shots of every class from its training pictures; all of val is asked."""
    with np.load(path) as stored:
        features = stored["features"].astype(np.float32)
        text, labels, split = stored["text_features"], stored["labels"], stored["split"]
    features /= np.linalg.norm(features, axis=-1, keepdims=True)
    own = [np.flatnonzero((labels == each) & (split == "train")) for each in range(len(text))]
    most = min(map(len, own))
    draws = draws if shots < most else 1
    order = np.argsort(np.random.default_rng((5, shots)).random((draws, len(own), most)), axis=-1)
    rows = np.take_along_axis(np.array([each[:most] for each in own])[None], order, axis=-1)
    asked = split == "val"
    query = np.broadcast_to(features[asked], (draws, asked.sum(), features.shape[1]))
    text = np.broadcast_to(text, (draws, *text.shape))
    return Column(features[rows[..., :shots]], text, query, labels[asked], 100.0)


def columns(features: Path, part: str, draws: int) -> Iterator[Asked]:
    """Yield the name of the kind of task, the shots, and the draws."""
    groups = GROUPS[part]
    pool = photographs(features / "imagenet_vitb32.npz", groups)
    drawn, seed = emoji(part, MOST + 2), {"development": 1000, "test": 2000}[part]
    for shots in SHOTS:
        for (name, classes), group in zip(groups.items(), pool.groups, strict=True):
            way = next((way for way in WAYS if way <= len(group)), len(group))
            of_group = (seed, shots, int(classes[0]))
            yield Asked(name, shots, of_pool(pool, group, way, shots, draws, of_group))
        every = drawn.groups[0]
        column = of_pool(drawn, every, len(every), shots, draws, (seed, shots))
        yield Asked("emoji", shots, column)
    if part == "development":
        for shots in CALTECH_SHOTS:
            path = features / "caltech67_vitb32.npz"
            yield Asked("Caltech", shots, of_caltech(path, shots, draws))


@partial(jax.jit, static_argnums=0)
def accuracies(adapter: Adapter, params: Params, column: Column) -> Array:
    """Accuracy in % of every draw."""
    needs = needs_of(adapter)

    def one(each: tuple[Array, ...]) -> Array:
        support, text, query, draw = each
        task = Task(support, jnp.ones(support.shape[:2], bool), text, column.scale)
        if "prompts" in needs:
            task = task._replace(prompts=Prompts(text[:, None], jnp.ones((len(text), 1), bool)))
        if "projection" in needs:
            identity = Projection(jnp.eye(text.shape[1]), jnp.zeros(text.shape[1]))
            task = task._replace(projection=identity)
        state = adapter.fit(params, task, jax.random.fold_in(jax.random.key(0), draw))
        more = (None,) if getattr(adapter, "reads_patches", False) else ()
        return 100 * jnp.mean(adapter.logits(state, query, *more).argmax(-1) == column.labels)

    draws = jnp.arange(len(column.support))
    return jax.lax.map(one, (column.support, column.text, column.query, draws))


def measure(adapter: Adapter, column: Column, params: Params | None = None) -> np.ndarray:
    """Accuracy of every draw with these parameters, or with those that it starts with."""
    if params is None:
        params = adapter.init(jax.random.key(0), column.text.shape[-1])
    return np.asarray(accuracies(adapter, params, Column(*map(jnp.asarray, column))))


def rivals() -> list[str]:
    """Methods that work on features of one prompt a class, zero-shot first."""
    able = [n for n in ADAPTERS if not needs_of(get_adapter(n)) & {"words", "towers"}]
    return [name for name in able if name != "meta_probe"]


def kept(workdir: Path, name: str, asked: Sequence[Asked]) -> dict[str, np.ndarray]:
    """Return what a method scored in every column; measure what is not kept."""
    path = workdir / f"{name}.json"
    scores: dict[str, list[float]] = json.loads(path.read_text()) if path.is_file() else {}
    for each in asked:
        if len(scores.get(each.key, ())) < len(each.column.support):
            scores[each.key] = measure(get_adapter(name), each.column).tolist()
            write_file(path, json.dumps(scores).encode())
            print(f"{name}, {each.key}: {np.mean(scores[each.key]):.1f}", flush=True)
    return {each.key: np.array(scores[each.key][: len(each.column.support)]) for each in asked}


def interval(values: Sequence[float] | np.ndarray) -> float:
    """Half the 95 % t interval of the mean; 0 of one value, which has none."""
    size = len(values)
    if size < 2:
        return 0.0
    return float(stats.t.ppf(0.975, size - 1) * np.std(values, ddof=1) / np.sqrt(size))


def cell(difference: np.ndarray, by_seed: Sequence[np.ndarray]) -> str:
    """The mean, its interval over draws, and over training seeds."""
    text = f"{difference.mean():+.1f}"
    if len(difference) > 1:
        text += f" ±{interval(difference):.1f}"
    return text + (f"/{interval([each.mean() for each in by_seed]):.1f}" if by_seed else "")


def table(
    asked: Sequence[Asked],
    ours: dict[str, np.ndarray],
    seeds: Sequence[dict[str, np.ndarray]],
    others: dict[str, dict[str, np.ndarray]],
) -> str:
    """The table of the differences as Markdown, a row a kind of task, its cells by shots."""
    rows: dict[str, list[tuple[str, str, str]]] = {}
    zero_shot = others["zero_shot"]
    for kind, _, _ in asked:
        rows.setdefault(kind, [])
    for each in asked:
        key = each.key
        best = max(others, key=lambda name: others[name][key].mean())
        cells = [
            cell(ours[key] - other[key], [seed[key] - other[key] for seed in seeds])
            for other in (zero_shot, others[best])
        ]
        rows[each.kind].append((cells[0], cells[1], f"`{best}`"))
    lines = ["|shots|against zero-shot|against the best|which|", "|---|---|---|---|"]
    for kind, found in rows.items():
        shots = ", ".join(str(each.shots) for each in asked if each.kind == kind)
        lines.append(
            "|".join(["", f"{kind} {shots}", *map(", ".join, zip(*found, strict=True)), ""])
        )
    return "\n".join(lines)


def ahead(
    asked: Sequence[Asked],
    ours: dict[str, np.ndarray],
    others: dict[str, dict[str, np.ndarray]],
) -> str:
    """By how much Meta-Probe is ahead of each method on average, and in how many columns."""
    lines = []
    for name, scores in others.items():
        gaps = [np.mean(ours[each.key] - scores[each.key]) for each in asked]
        lines.append(f"{name}: {np.mean(gaps):+.2f}, ahead in {np.sum(np.array(gaps) > 0)}")
    return "\n".join([f"Meta-Probe minus each method, {len(asked)} columns:", *lines])


def main() -> None:
    """Measure what is not kept, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, default=Path("../shared/features"))
    parser.add_argument("--workdir", type=Path, required=True, help="where scores are kept")
    parser.add_argument("--methods", nargs="+", default=rivals())
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--learned", type=Path, help="numbers of every training seed")
    parser.add_argument("--test", action="store_true", help="the parts to look at once")
    given = parser.parse_args()
    needed = ("imagenet_vitb32.npz", "caltech67_vitb32.npz")
    if missing := [name for name in needed if not (given.features / name).is_file()]:
        parser.error(f"--features {given.features} has no {' and no '.join(missing)}")
    part = "test" if given.test else "development"
    workdir = given.workdir / part
    workdir.mkdir(parents=True, exist_ok=True)
    asked = list(columns(given.features, part, given.draws))
    names = dict.fromkeys(["zero_shot", *given.methods])
    others = {name: kept(workdir, name, asked) for name in names}
    learned = json.loads(given.learned.read_text()) if given.learned else []
    probe, is_row = get_adapter("meta_probe"), lambda x: isinstance(x, list)
    ours, *seeds = (
        {each.key: measure(probe, each.column, params) for each in asked}
        for params in (None, *(jax.tree.map(jnp.float32, seed, is_leaf=is_row) for seed in learned))
    )
    print(table(asked, ours, seeds, others))
    print(ahead(asked, ours, others))


if __name__ == "__main__":
    main()
