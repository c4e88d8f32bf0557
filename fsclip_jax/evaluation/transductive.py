"""Answers refined by the other queries of a batch: a protocol of its own.

Every method is fitted as for ``full_way`` and asked about all query images. Of its answers come the
row of the method itself and one a refinement, on the same batches of the same images. What a
refinement gives depends on the classes that a batch holds, so these are drawn as the papers do: all
classes, few of them, or streams in which a class comes together.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.config import Batching, EvalConfig, read_batch
from fsclip_jax.evaluation.label_spaces import check_splits, label_spaces
from fsclip_jax.evaluation.measure import choose, with_shots
from fsclip_jax.evaluation.metrics import Judged, judge
from fsclip_jax.evaluation.pictures import NO_INPUTS, Inputs
from fsclip_jax.evaluation.prepare import Setting, prepare
from fsclip_jax.evaluation.progress import SILENT, Watch, step_line
from fsclip_jax.evaluation.protocols import Outcome, groups_of, settings_by_need, short_of, step_of
from fsclip_jax.evaluation.results import Result, rows_from
from fsclip_jax.evaluation.spread import Found, spread
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.fitted import FIT_COSTS, Fitted, Predictions, fit_in_batches, logits_of
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Choice
from fsclip_jax.hosts import ALONE, Hosts
from fsclip_jax.report.measured import Measured, Place, saw_of
from fsclip_jax.report.names import REFINED
from fsclip_jax.report.shots import Shots, in_order
from fsclip_jax.transductive.base import Batch, Refinement
from fsclip_jax.transductive.catalog import REFINEMENTS
from fsclip_jax.typing import Array, Bool, Float, Int

BATCH_SEED = 4
"""Seed of the batches: fixed, so that every method sees the same."""

ASKED_AT_ONCE = 2**22
"""Numbers of the queries that a method is asked about together."""
ALONE_GROUP = "alone"
"""What progress calls the answers before they are refined."""

SAW_QUERIES = (
    "rows with + saw the queries that they are judged on, in batches: they stand beside no row of "
    "another protocol"
)


class Batches(NamedTuple):
    """Places of the queries of every batch, and which of these are queries [batch size]."""

    place: Int[np.ndarray, "batch size"]
    mask: Bool[np.ndarray, "batch size"]


def draw_batches(labels: np.ndarray, how: Batching, size: int, count: int, seed: int) -> Batches:
    """Draw the batches of one draw; but for ``few`` every query is in one of them.

    Example:
        >>> draw_batches(np.array([0, 0, 1, 2]), Batching("few", 1, 1), 2, 3, 0).place.shape
        (3, 2)
    """
    rng = np.random.default_rng([BATCH_SEED, seed])
    if how.kind == "all":
        return _padded([rng.permutation(len(labels))], len(labels))
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if how.kind == "few":
        return _padded([_few(rng, by_class, how, size) for _ in range(count)], size)
    order = _separate(rng, by_class) if how.kind == "separate" else _slots(rng, by_class, how, size)
    return _padded([order[low : low + size] for low in range(0, len(order), size)], size)


def _few(
    rng: np.random.Generator, by_class: Sequence[np.ndarray], how: Batching, size: int
) -> np.ndarray:
    """Draw a batch from classes drawn before; all of their queries where they are fewer."""
    wanted = min(int(rng.integers(how.low, how.high + 1)), len(by_class))
    chosen = rng.choice(len(by_class), wanted, replace=False)
    rows = rng.permutation(np.concatenate([by_class[label] for label in chosen]))
    return np.asarray(rows[:size])


def _separate(rng: np.random.Generator, by_class: Sequence[np.ndarray]) -> np.ndarray:
    order = rng.permutation(len(by_class))
    return np.concatenate([rng.permutation(by_class[label]) for label in order])


def _slots(
    rng: np.random.Generator, by_class: Sequence[np.ndarray], how: Batching, size: int
) -> np.ndarray:
    """Spread the queries of every class over slots of time by a Dirichlet distribution."""
    slots = max(1, min(sum(map(len, by_class)) // size, len(by_class)))
    filled: list[list[np.ndarray]] = [[] for _ in range(slots)]
    for rows in by_class:
        shares = np.cumsum(rng.dirichlet(np.full(slots, how.gamma)))[:-1]
        parts = np.split(rng.permutation(rows), (shares * len(rows)).astype(int))
        for slot, part in zip(filled, parts, strict=True):
            slot.append(part)
    return np.concatenate([rng.permutation(np.concatenate(slot)) for slot in filled])


def _padded(batches: Sequence[np.ndarray], size: int) -> Batches:
    index, mask = (np.zeros((len(batches), size), kind) for kind in (np.int32, bool))
    for place, rows in enumerate(batches):
        index[place, : len(rows)], mask[place, : len(rows)] = rows, True
    return Batches(index, mask)


def run_transductive(
    config: EvalConfig,
    stored: StoredBank,
    methods: Sequence[Method],
    watch: Watch = SILENT,
    inputs: Inputs = NO_INPUTS,
    engine: Engine | None = None,
    hosts: Hosts = ALONE,
) -> Outcome:
    """Evaluate every method alone and refined.

    Raises:
        UserError: the data does not have the images or shots, or the text, that are needed.
    """
    shots, engine = in_order(config.shots), engine or Engine()
    refinements = [REFINEMENTS[name]() for name in config.refine]
    _check_text(stored, refinements)
    on_val = check_splits(config, stored) and config.select == "val"
    (space,) = label_spaces(config, len(stored.class_names))
    (group,) = space.groups
    watch.begin(len(methods))
    watch.now(f"drawing shots of {len(space.classes)} classes")
    setting = prepare(config, stored, space, on_val, inputs.words)
    query, how = setting.queries[group.name], read_batch(config.batch)
    labels = np.asarray(query.labels)
    batches = [
        draw_batches(labels, how, config.batch_size, config.batches, draw)
        for draw in range(config.seeds)
    ]
    seen_by = settings_by_need(config, stored, setting, inputs)

    def work(unit: tuple[Method, Shots]) -> Found:
        method, shot = unit
        watch.now(f"{step_of(methods, method)}: {group.name} classes")
        judge_all = _Judging(engine, refinements, setting, batches, how.kind == "few")
        return judge_all.of(config, seen_by(method), method, shot)

    results: dict[Place, Result] = {}
    each = spread(hosts, "batches", [(m, k) for m in methods for k in shots], work)
    for method in methods:
        found = {(name, k): one for k in shots for name, one in next(each).items()}
        watch.ended(step_line(step_of(methods, method), shots, found))
        for (name, k), one in found.items():
            row = method.name if name == ALONE_GROUP else method.name + REFINED + name
            results[group.name, row, k] = one
    facts: dict[str, Any] = {"groups": groups_of(setting), "n_query": len(labels)}
    short = {str(k): short_of(setting, k) for k in shots}
    facts["classes_short_of_shots"] = {k: count for k, count in short.items() if count}
    return Outcome(rows_from(results), facts, None)


def _check_text(stored: StoredBank, refinements: Sequence[Refinement]) -> None:
    if stored.text_features is None and any(one.needs_text for one in refinements):
        names = [one.name for one in refinements if one.needs_text]
        others = " ".join(one.name for one in refinements if not one.needs_text)
        raise UserError(
            f"{', '.join(names)} is anchored to text, and {stored.path} has none: give --refine "
            f"{others or 'transclip'}"
        )


@dataclasses.dataclass(frozen=True)
class _Judging:
    """One method at one number of shots, alone and refined, on the batches of every draw."""

    engine: Engine
    refinements: Sequence[Refinement]
    setting: Setting
    batches: Sequence[Batches]
    anew: bool
    """Whether what is refined online begins anew with every batch, or goes on."""

    def of(self, config: EvalConfig, seen: Setting, method: Method, shots: Shots) -> Found:
        """Fit the method and refine its answers; ``seen`` is what it is fitted to and asked."""
        choice = choose(self.engine, config, seen, method, shots)
        draws = with_shots(seen, seen.draws, shots)
        (asked,) = (query.features for query in seen.queries.values())
        at_once = min(len(asked), max(1, ASKED_AT_ONCE // asked.shape[1]))
        judged: dict[str, list[Judged]] = {}
        costs: list[Fitted] = []
        for draw, fitted in enumerate(_one_by_one(self.engine, method, choice, draws.task)):
            logits = logits_of(fitted, np.asarray(asked), at_once)[0]
            for name, one in self._answers(logits, draw):
                judged.setdefault(name, []).append(one)
            costs.append(fitted)
        return {name: self._result(name, each, costs, choice) for name, each in judged.items()}

    def _answers(self, logits: np.ndarray, draw: int) -> Iterator[tuple[str, Judged]]:
        """Yield what is said of every query of the batches of a draw."""
        (query,), batches = self.setting.queries.values(), self.batches[draw]
        text = self.setting.draws.task.text[0]
        data = tuple(map(jnp.asarray, (logits, query.features, query.labels, text)))
        for refinement in (None, *self.refinements):
            index, mask = batches
            if refinement is not None and refinement.online and not self.anew:
                index, mask = index.reshape(1, -1), mask.reshape(1, -1)
            said, _ = self.engine.run(
                ("refine", refinement),
                functools.partial(_refined, refinement),
                *data,
                jnp.asarray(index),
                jnp.asarray(mask),
            )
            labels = np.asarray(query.labels)[index]
            parts = (np.ravel(part) for part in (*said, labels, mask))
            yield refinement.name if refinement else ALONE_GROUP, Judged(*parts)

    def _result(
        self, name: str, judged: Sequence[Judged], fitted: Sequence[Fitted], choice: Choice
    ) -> Result:
        together = Judged(*(np.stack(part) for part in zip(*judged, strict=True)))
        method = fitted[0].method.name
        saw, selection = saw_of(method, choice.record), dict(choice.record)
        if name != ALONE_GROUP:
            saw = (*saw, *(["queries"] if "queries" not in saw else []))
            selection["refined_with"] = dataclasses.asdict(REFINEMENTS[name]())  # type: ignore[call-overload]
        costs = {
            cost: np.asarray(np.mean([of(one) for one in fitted])) for cost, of in FIT_COSTS.items()
        }
        return Result(Measured({**judge(together), **costs}, selection, saw))


def _one_by_one(engine: Engine, method: Method, choice: Choice, task: Any) -> Iterator[Fitted]:
    """Fit to all draws, as many side by side as is quick, and yield the fit of each."""
    for fitted in fit_in_batches(engine, method, choice, task):
        for number in range(fitted.draws):
            yield fitted.draw(number)


def _refined(
    refinement: Refinement | None,
    logits: Float[Array, "query way"],
    features: Float[Array, "query dim"],
    labels: Int[Array, " query"],
    text: Float[Array, "way dim"],
    index: Int[Array, "batch size"],
    mask: Bool[Array, "batch size"],
) -> Predictions:
    """Refine batch after batch, and say what of the answers is judged."""

    def one(part: tuple[Array, Array]) -> Predictions:
        rows, there = part
        if refinement is None:
            log = jax.nn.log_softmax(logits[rows], axis=-1)
        else:
            log = refinement.refine(Batch(logits[rows], features[rows], there, text))
        log = jnp.minimum(log, 0)  # rounding may make a probability a little more than one
        true = jnp.take_along_axis(log, labels[rows][:, None], axis=-1)[:, 0]
        return Predictions(log.argmax(-1).astype(jnp.int32), jnp.exp(log.max(-1)), -true)

    return jax.lax.map(one, (index, mask))
