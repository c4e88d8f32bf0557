"""The method that a run trains, as its configuration says."""

from typing import Any

import jax

from fsclip_jax.adapters.base import Adapter, is_meta_learned, learns_across_tasks, needs_of
from fsclip_jax.adapters.catalog import ADAPTERS, example_task, get_adapter
from fsclip_jax.errors import UserError
from fsclip_jax.training.config import TrainConfig


def make_adapter(config: TrainConfig) -> Adapter:
    """Return the method to train, with its static fields.

    Raises:
        UserError: an unknown method, a field that it does not have, a value of another type, or
            a method that needs the text tower, or learns nothing across tasks.

    Example:
        >>> make_adapter(TrainConfig(fields=("heads=2", "text_in_keys=false")))
        MetaAdapter(heads=2, text_in_keys=False)
    """
    adapter = get_adapter(config.method)
    given: dict[str, Any] = {}
    for pair in config.fields:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--fields {pair} is not NAME=VALUE, such as heads=4")
        given[name] = _value(config.method, name, text, getattr(adapter, name, None))
    through = {"words": "the text tower", "towers": "both towers"}
    if learns := needs_of(adapter) & set(through):
        raise UserError(
            f"--method {config.method} learns through {through[min(learns)]}, which episodes do "
            f"not carry; compare it with `fsclip eval --methods {config.method}`"
        )
    adapter = get_adapter(config.method, **given)
    _refuse_unlearned(adapter)
    return adapter


def _refuse_unlearned(adapter: Adapter) -> None:
    """Refuse a method that learns of each task alone, if at all."""
    if learns_across_tasks(adapter):
        return
    why = ": it trains on the shots of each task" if hasattr(adapter, "train") else ""
    others = [other for other in ADAPTERS if is_meta_learned(get_adapter(other))]
    raise UserError(
        f"--method {adapter.name} has nothing to learn across tasks{why}; train one of "
        f"{', '.join(others)}, or compare it with `fsclip eval --methods {adapter.name}`"
    )


def chosen_anew(adapter: Adapter) -> list[str]:
    """Say of what is trained that an evaluation chooses it for every task, in a line if at all.

    Example:
        >>> chosen_anew(get_adapter("gda"))
        ['gda: alpha is learned for `--select none`; else eval chooses it for every task']
    """
    chosen = tuple(getattr(adapter, "scalars", ()))
    if is_meta_learned(adapter) or not chosen:
        return []
    learned, them = ("are", "them") if chosen[1:] else ("is", "it")
    what = f"{adapter.name}: {', '.join(chosen)} {learned} learned for `--select none`"
    return [f"{what}; else eval chooses {them} for every task"]


def _value(method: str, name: str, text: str, default: Any) -> Any:
    """Read a field as the type of its default; a field that is not there is refused later."""
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        return kind(text) if kind in (int, float) else text
    except (KeyError, ValueError):
        accepted = "true or false" if kind is bool else f"a number, like {default}"
        raise UserError(f"--fields {name}={text}: {name} of {method} is {accepted}") from None


def check_width(adapter: Adapter, dim: int) -> None:
    """Refuse fields that features of this width do not go with, such as a number of heads."""
    task, _ = example_task(way=2, shot=1, query=1, dim=dim)

    def fit() -> Any:
        key = jax.random.key(0)
        return adapter.fit(adapter.init(key, dim), task, key)

    try:
        jax.eval_shape(fit)
    except ValueError as error:
        raise UserError(f"--method {adapter.name}: {error}; give --fields that fit") from None
