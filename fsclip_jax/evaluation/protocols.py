"""The comparison itself: every method on the same draws and the same images."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fsclip_jax.adapters.base import reads_patches
from fsclip_jax.episodes.check import check_shots
from fsclip_jax.episodes.sampler import EpisodeSpec
from fsclip_jax.episodes.task import Query, Words
from fsclip_jax.errors import UserError
from fsclip_jax.evaluation.as_published import SUFFIX, choose_on_test, evaluate_meta_adapter
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.draws import (
    Draws,
    bank_rows,
    draw_episodes,
    draw_supports,
    first_draw,
    queries_of,
    truncate,
)
from fsclip_jax.evaluation.engine import Answers, Engine, answer
from fsclip_jax.evaluation.methods import Method
from fsclip_jax.evaluation.metrics import (
    accuracy,
    calibration_error,
    class_mean_accuracy,
    masked_query_mean,
)
from fsclip_jax.evaluation.predictions import Part, Predictions, assemble
from fsclip_jax.evaluation.report import Row
from fsclip_jax.evaluation.results import Result, harmonic_results, kept_answers, rows_of
from fsclip_jax.evaluation.selection import Choice, fixed, select_held_out, select_on
from fsclip_jax.evaluation.spaces import LabelSpace, check_splits, class_halves, label_spaces
from fsclip_jax.evaluation.words import words_of
from fsclip_jax.features.bank import Bank, StoredBank, select_bank

SUPPORT_SEED, EPISODE_SEED, VAL_EPISODE_SEED = 1, 2, 3
"""Seeds of the draws: fixed, so that every evaluation of some data sees the same shots."""

VAL_EPISODES = 200
"""Episodes with queries from val that settings are chosen on, for the protocol ``episodic``."""


class Setting(NamedTuple):
    """One label space with its draws and images.

    Attributes:
        space: the label space.
        draws: supports, at the largest number of shots.
        queries: images to ask, by group.
        val: val images to select on, if there are any: their draws (the same as ``draws`` but
            for episodes) and their queries.
        all_shots: shots that take every train image of every class, so that there is but one
            draw; None for episodes, whose classes differ.
    """

    space: LabelSpace
    draws: Draws
    queries: Mapping[str, Query]
    val: tuple[Draws, Query] | None
    all_shots: int | None = None


class Outcome(NamedTuple):
    """What an evaluation found.

    Attributes:
        rows: of the report.
        facts: about the draws.
        predictions: the answers behind the rows; None where they are not kept.
    """

    rows: tuple[Row, ...]
    facts: dict[str, Any]
    predictions: Predictions | None


def run_protocol(
    config: EvalConfig,
    stored: StoredBank,
    methods: Sequence[Method],
    progress: Callable[[str], None] = lambda _: None,
    words: Words | None = None,
    engine: Engine | None = None,
) -> Outcome:
    """Evaluate the methods.

    Args:
        config: what to evaluate.
        stored: the opened bank.
        methods: the methods.
        progress: told a line before every piece of work.
        words: of all classes of the bank, for methods that need them.
        engine: keeps what was compiled.

    Returns:
        The rows of the report, facts about the draws, and the answers.

    Raises:
        UserError: the data does not have the images or shots that were asked for.
    """
    shots = tuple(sorted(set(config.shots)))
    on_val = check_splits(config, stored) and config.select == "val"
    results: dict[tuple[str, str, int], Result] = {}
    facts: dict[str, Any] = {"n_query": 0, "groups": {}}
    engine, short = engine or Engine(), dict.fromkeys(shots, 0)
    keep, parts = config.predictions and config.protocol != "episodic", []
    patches = stored.patches > 0 and any(reads_patches(method.adapter) for method in methods)
    halves = class_halves(config, stored)
    for space in label_spaces(config, len(stored.class_names), halves):
        progress(f"drawing shots of {len(space.classes)} classes")
        setting = prepare(config, stored, space, max(shots), on_val, words, patches=patches)
        if config.protocol != "episodic":
            held = np.asarray(setting.draws.task.support_mask[0].sum(-1))
            for shot in shots:
                short[shot] += int((held < shot).sum())
        if keep:
            parts.append(_part(config, stored, setting))
        for name, query in setting.queries.items():
            count = int(query.mask.sum())
            ids = next(group.classes for group in space.groups if group.name == name)
            facts["groups"][name] = {"n_classes": len(ids), "n_query": count}
            facts["n_query"] += count
        for method in methods:
            progress(f"evaluating {method.name}: {_called(setting)}")
            for shot in shots:
                for group, result in evaluate(engine, config, setting, method, shot).items():
                    results[group, method.name, shot] = result
    if "meta_adapter" in config.as_published:
        progress("evaluating meta_adapter as published")
        for shot in shots:
            result = evaluate_meta_adapter(stored, shot, config.seeds)
            results["novel", "meta_adapter" + SUFFIX, shot] = result
    if config.protocol == "cross_category":
        results |= harmonic_results(results, [method.name for method in methods], shots)
    facts["classes_short_of_shots"] = {str(shot): n for shot, n in short.items() if n}
    predictions = None
    if keep:
        ways = {name: len(part.classes) for part in parts for name in part.groups}
        data = [(config.data, stored.keys)]
        predictions = assemble(data, parts, kept_answers(results, ways))
    return Outcome(rows_of(results), facts, predictions)


def _part(config: EvalConfig, stored: StoredBank, setting: Setting) -> Part:
    """The images of a label space, as rows of the bank."""
    space, places = setting.space, np.asarray(setting.draws.rows)
    shots = np.where(places >= 0, bank_rows(stored, ["train"])[places], -1)
    rows = {
        group.name: bank_rows(stored, [config.query_split], group.classes) for group in space.groups
    }
    groups = {name: (0, rows[name], np.asarray(setting.queries[name].labels)) for name in rows}
    names = [stored.class_names[label] for label in space.classes.tolist()]
    return Part(0, names, space.classes, shots, groups)


def prepare(
    config: EvalConfig,
    stored: StoredBank,
    space: LabelSpace,
    shots: int,
    on_val: bool,
    words: Words | None = None,
    *,
    patches: bool = False,
) -> Setting:
    """Draw the supports of a label space and read the images to ask.

    Args:
        config: what to evaluate.
        stored: the opened bank.
        space: the label space.
        shots: the largest number of shots.
        on_val: whether to read val images as well.
        words: of all classes of the bank, if a method needs them.
        patches: whether to read the patches of the images to ask.

    Returns:
        All that the methods are evaluated on.
    """
    if config.protocol == "episodic":
        return _prepare_episodes(config, stored, space, shots, on_val, patches=patches)
    train = select_bank(stored, ["train"])
    _check_shots(train, stored, space.classes, shots)
    key = jax.random.key(SUPPORT_SEED)
    draws = draw_supports(key, train, space, shots, config.seeds)
    if words is not None:
        few = words_of(words, space.classes, config.seeds)
        draws = draws._replace(task=draws.task._replace(words=few))
    queries = {
        group.name: queries_of(stored, config.query_split, space, group, patches=patches)
        for group in space.groups
    }
    val = None
    if on_val:
        parts = [queries_of(stored, "val", space, group, patches=patches) for group in space.groups]
        val = draws, jax.tree.map(lambda *x: jnp.concatenate(x), *parts)
    return Setting(space, draws, queries, val, largest_train_class(stored))


def _prepare_episodes(
    config: EvalConfig,
    stored: StoredBank,
    space: LabelSpace,
    shots: int,
    on_val: bool,
    *,
    patches: bool,
) -> Setting:
    train = select_bank(stored, ["train"], space.classes)
    asked = select_bank(stored, [config.query_split], space.classes, patches=patches)
    both = int(((train.sizes > 0) & (asked.sizes > 0)).sum())
    if both < config.way:
        raise UserError(
            f"way is {config.way}; {both} classes have train and {config.query_split} images: "
            f"give --way {both} or less"
        )
    _check_shots(train, stored, space.classes, shots)
    spec = EpisodeSpec(config.way, shots, config.query)
    key = jax.random.key(EPISODE_SEED)
    draws, query = draw_episodes(key, train, asked, spec, config.episodes)
    val = None
    if on_val:
        val_bank = select_bank(stored, ["val"], space.classes, patches=patches)
        if int(((train.sizes > 0) & (val_bank.sizes > 0)).sum()) >= config.way:
            val_key = jax.random.key(VAL_EPISODE_SEED)
            val = draw_episodes(val_key, train, val_bank, spec, VAL_EPISODES)
    return Setting(space, draws, {space.groups[0].name: query}, val)


def largest_train_class(stored: StoredBank) -> int:
    """Return the most train images that a class of the bank has."""
    return int(np.bincount(stored.labels[stored.splits == 0]).max())


def _check_shots(train: Bank, stored: StoredBank, classes: np.ndarray, shots: int) -> None:
    """Refuse shots that the data cannot give.

    Where it has artist families, a class with fewer images gives what it has, and the mask says
    so; then only the largest class must have enough.
    """
    sizes = np.asarray(train.sizes)
    if len(sizes) == len(stored.class_names):
        sizes = sizes[classes]
    if stored.domains is None:
        names = tuple(stored.class_names[int(label)] for label in classes)
        check_shots(train._replace(sizes=jnp.asarray(sizes)), shots, names)
    elif sizes.max() < shots:
        raise UserError(
            f"shots are up to {shots}; the largest class has {sizes.max()} train images: "
            f"give --shots of {sizes.max()} or less"
        )


def evaluate(
    engine: Engine, config: EvalConfig, setting: Setting, method: Method, shots: int
) -> dict[str, Result]:
    """Evaluate one method at one number of shots.

    Args:
        engine: keeps what was compiled.
        config: what to evaluate.
        setting: the draws and the images.
        method: the method.
        shots: labelled images per class.

    Returns:
        The numbers, by group.
    """
    draws = _with_shots(setting, setting.draws, shots)
    choice = choose(engine, config, setting, method, shots)
    answers = answer(
        engine,
        method.adapter,
        choice.params,
        draws.task,
        setting.queries,
        params_per_draw=choice.per_draw,
    )
    how = {"episodic": config.protocol == "episodic", "keep": config.predictions}
    return {
        name: _judge(setting, query, answers, name, choice, **how)
        for name, query in setting.queries.items()
    }


def _judge(
    setting: Setting,
    query: Query,
    answers: Answers,
    group: str,
    choice: Choice,
    *,
    episodic: bool,
    keep: bool,
) -> Result:
    """Compare the answers of one group with the truth."""
    told = answers.told[group]
    labels = np.broadcast_to(np.asarray(query.labels), told.predictions.shape)
    mask = np.broadcast_to(np.asarray(query.mask), told.predictions.shape)
    class_mean = None
    if not episodic:
        way = len(setting.space.classes)
        class_mean = float(class_mean_accuracy(told.predictions, labels, mask, way).mean())
    error = told.confidence, told.predictions == labels, mask
    if episodic:  # episodes are too small for bins of their own: theirs are pooled
        error = error[0].ravel(), error[1].ravel(), error[2].ravel()
    return Result(
        per_draw=accuracy(told.predictions, labels, mask),
        selection=choice.record,
        class_mean=class_mean,
        calibration_error=float(calibration_error(*error).mean()),
        negative_log_likelihood=float(masked_query_mean(told.surprise, mask).mean()),
        fit_seconds=answers.fit_seconds,
        predict_us_per_query=answers.predict_us_per_query[group],
        state_bytes=answers.state_bytes,
        told=None if episodic or not keep else told,
    )


def choose(
    engine: Engine, config: EvalConfig, setting: Setting, method: Method, shots: int
) -> Choice:
    """Choose the parameters of a method at one number of shots.

    Args:
        engine: keeps what was compiled.
        config: what to evaluate.
        setting: the draws, and the val images if there are any.
        method: the method.
        shots: labelled images per class.

    Returns:
        The choice. The query images have no part in it.
    """
    if method.origin.get("as_published"):
        task = _with_shots(setting, setting.draws, shots).task
        (test,) = setting.queries.values()
        val_query = None if setting.val is None else setting.val[1]
        return choose_on_test(engine, method, task, test, val_query)
    if not method.searched:
        return Choice(method.params, False, dict(method.origin))
    if config.select == "none":
        return fixed(method.adapter, method.params, "one setting for all data")
    together = config.protocol == "episodic"
    if config.select == "shots" or setting.val is None:
        draws = _with_shots(setting, setting.draws, shots)
        return select_held_out(engine, method.adapter, method.params, draws, together=together)
    draws, query = setting.val
    rule = "val episodes" if together else f"val images of {_called(setting)}"
    task = _with_shots(setting, draws, shots).task
    return select_on(engine, method.adapter, method.params, task, query, rule, together=together)


def _with_shots(setting: Setting, draws: Draws, shots: int) -> Draws:
    """Return draws of so many shots; a single one where all draws would be the same images."""
    few = truncate(draws, shots)
    if setting.all_shots is not None and shots >= setting.all_shots:
        return first_draw(few)
    return few


def _called(setting: Setting) -> str:
    names = " and ".join("all" if name == "test" else name for name in setting.queries)
    return f"{names} classes"
