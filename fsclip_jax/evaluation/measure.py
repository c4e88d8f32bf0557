"""One method at one number of shots: choosing its setting, fitting it, judging its answers."""

import numpy as np

from fsclip_jax.episodes.task import Query
from fsclip_jax.evaluation.as_published import choose_on_test
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.metrics import (
    accuracy,
    calibration_error,
    class_mean_accuracy,
    masked_query_mean,
)
from fsclip_jax.evaluation.prepare import Setting
from fsclip_jax.evaluation.results import Result
from fsclip_jax.fitting.draws import Draws, first_draw, truncate
from fsclip_jax.fitting.engine import Answers, Engine, answer
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Choice, fixed, select_held_out, select_on


def evaluate(
    engine: Engine,
    config: EvalConfig,
    setting: Setting,
    method: Method,
    shots: int,
    choice: Choice | None = None,
) -> dict[str, Result]:
    """Evaluate one method at one number of shots.

    Args:
        engine: keeps what was compiled.
        config: what to evaluate.
        setting: the draws and the images.
        method: the method.
        shots: labelled images per class.
        choice: of its parameters, made elsewhere; made on this setting if not given.

    Returns:
        The numbers, by group.
    """
    draws = _with_shots(setting, setting.draws, shots)
    choice = choice or choose(engine, config, setting, method, shots)
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
    # The tasks of episodes are too small to choose on one by one, and the setting of a source
    # is to serve draws that are not its own.
    together = config.protocol in ("episodic", "cross_dataset", "domain_shift")
    if config.select == "shots" or setting.val is None:
        draws = _with_shots(setting, setting.draws, shots)
        return select_held_out(engine, method.adapter, method.params, draws, together=together)
    draws, query = setting.val
    episodes = config.protocol == "episodic"
    rule = "val episodes" if episodes else f"val images of {called(setting)}"
    task = _with_shots(setting, draws, shots).task
    return select_on(engine, method.adapter, method.params, task, query, rule, together=together)


def _with_shots(setting: Setting, draws: Draws, shots: int) -> Draws:
    """Return draws of so many shots; a single one where all draws would be the same images."""
    few = truncate(draws, shots)
    if setting.all_shots is not None and shots >= setting.all_shots:
        return first_draw(few)
    return few


def called(setting: Setting) -> str:
    """Say in a few words what a setting is about."""
    if setting.source:
        return f"the source {setting.source}"
    names = " and ".join("all" if name == "test" else name for name in setting.queries)
    return f"{names} classes"
