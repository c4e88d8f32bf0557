"""One method at one number of shots: choosing its setting, fitting it, judging its predictions."""

import numpy as np

from fsclip_jax.episodes.task import Query
from fsclip_jax.evaluation.as_published import choose_on_test
from fsclip_jax.evaluation.config import EvalConfig
from fsclip_jax.evaluation.metrics import Judged, judge
from fsclip_jax.evaluation.prepare import Setting
from fsclip_jax.evaluation.results import Result
from fsclip_jax.fitting.draws import Draws, first_draw, truncate
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.fitted import Asked, choose_setting, fit_and_predict
from fsclip_jax.fitting.methods import Method
from fsclip_jax.fitting.selection import Choice, Val
from fsclip_jax.report.measured import Measured, saw_of
from fsclip_jax.report.shots import Shots


def evaluate(
    engine: Engine,
    config: EvalConfig,
    setting: Setting,
    method: Method,
    shots: Shots,
    choice: Choice | None = None,
) -> dict[str, Result]:
    """Evaluate one method at one number of shots, with parameters chosen here unless given."""
    draws = with_shots(setting, setting.draws, shots)
    choice = choice or choose(engine, config, setting, method, shots)
    asked = fit_and_predict(engine, method, choice, draws.task, setting.queries)
    return {
        name: _result(config, query, asked, name, method, choice)
        for name, query in setting.queries.items()
    }


def _result(
    config: EvalConfig, query: Query, asked: Asked, group: str, method: Method, choice: Choice
) -> Result:
    """Compare the predictions of one group with the truth."""
    predictions, episodic = asked.predictions[group], config.protocol == "episodic"
    labels, mask = (
        np.broadcast_to(np.asarray(part), predictions.predicted.shape)
        for part in (query.labels, query.mask)
    )
    metrics = {
        **judge(Judged(*predictions, labels, mask), few=episodic),
        **asked.costs,
        "predict_us_per_query": np.asarray(asked.predict_us_per_query[group]),
    }
    measured = Measured(metrics, choice.record, saw_of(method.name, choice.record))
    return Result(measured, predictions if config.predictions and not episodic else None)


def choose(
    engine: Engine, config: EvalConfig, setting: Setting, method: Method, shots: Shots
) -> Choice:
    """Choose the parameters at one number of shots. The query images have no part in it."""
    if method.origin.get("as_published"):
        task = with_shots(setting, setting.draws, shots).task
        (test,) = setting.queries.values()
        val_query = None if setting.val is None else setting.val[1]
        return choose_on_test(engine, method, task, test, val_query)
    # The tasks of episodes are too small to choose on one by one, and the setting of a source
    # is to serve draws that are not its own.
    together = config.protocol in ("episodic", "cross_dataset", "domain_shift")
    val = None
    if setting.val is not None:
        draws, query = setting.val
        episodes = config.protocol == "episodic"
        rule = "val episodes" if episodes else f"val images of {called(setting)}"
        if shots in setting.vals:
            query, rule = setting.vals[shots], f"val lists of {called(setting)}"
        val = Val(with_shots(setting, draws, shots).task, query, rule)
    draws = with_shots(setting, setting.draws, shots)
    return choose_setting(engine, method, draws, config.select, val, together=together)


def with_shots(setting: Setting, draws: Draws, shots: Shots) -> Draws:
    """Return draws of so many shots; a single one where all draws would be the same images."""
    if shots in setting.others:
        return setting.others[shots]
    assert isinstance(shots, int), "uneven draws are among the others"
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
