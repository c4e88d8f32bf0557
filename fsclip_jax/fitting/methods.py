"""Choosing methods: by name, or all; a trained adapter beside its untrained self."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from fsclip_jax.adapters.base import (
    Adapter,
    grids_of,
    is_meta_learned,
    needs_of,
    runs_without_text,
)
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.adapters.linear_probe import MOST_LENGTH
from fsclip_jax.errors import UserError, suggestion
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.fitting.checkpoints import (
    Checkpoint,
    FeatureSpec,
    find_checkpoints,
    read_checkpoint,
)
from fsclip_jax.fitting.inputs import BY_NAME
from fsclip_jax.transductive.catalog import REFINEMENTS
from fsclip_jax.typing import Params

UNTRAINED = "_untrained"
"""What the name of a method with its starting parameters ends in."""


@dataclass(frozen=True, eq=False)
class Method:
    """One line of the table. Two are never equal: learned parameters are arrays.

    Attributes:
        origin: where learned parameters came from, for the report; empty if there are none.
        settled: its scalars are not searched.
    """

    name: str
    adapter: Adapter
    params: Params
    origin: Mapping[str, Any] = field(default_factory=dict)
    trained: Checkpoint | None = None
    settled: bool = False

    @property
    def searched(self) -> bool:
        """Whether its parameters are scalars that are searched and not learned."""
        return bool(grids_of(self.adapter)) and not self.settled


@dataclass(frozen=True)
class Chosen:
    """The methods of a comparison, each once.

    Attributes:
        left_out: why a method of ``all`` is not among them, by its name.
    """

    methods: tuple[Method, ...]
    checkpoints: tuple[Checkpoint, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)


def lengths_missing(methods: Sequence[Method], *banks: StoredBank) -> list[str]:
    """Say which methods start at a length of convention, and why."""
    readers = [m.name for m in methods if getattr(m.adapter, "reads_text_lengths", False)]
    if not readers:
        return []
    start = f"training of {', '.join(readers)} starts at 1/20 of the logit scale"
    found = [bank for bank in banks if bank.text_features is not None]
    shares = [
        None if bank.text_lengths is None else bank.text_lengths.mean() / bank.logit_scale
        for bank in found
    ]
    if None in shares:
        return [f"the bank keeps no lengths of text vectors: {start}"]
    if any(share > MOST_LENGTH for share in shares if share is not None):
        return [f"text vectors are longer than {MOST_LENGTH:g} of the logit scale: {start}"]
    return []


def expand_names(names: Sequence[str]) -> dict[str, bool]:
    """Return the methods that names stand for, and whether each was asked for by its name.

    Raises:
        UserError: an unknown name.

    Example:
        >>> list(expand_names(["meta_adapter_untrained", "gda"]).items())
        [('meta_adapter_untrained', True), ('gda', True)]
    """
    found: dict[str, bool] = {}
    for name in names:
        if name == "all":
            found |= {known: found.get(known, False) for known in ADAPTERS}
        else:
            adapter_named(name)
            found[name] = True
    return found


def adapter_named(name: str) -> Adapter:
    """Return the method of that name, or of that name with ``_untrained`` at its end."""
    base = name.removesuffix(UNTRAINED)
    if name in REFINEMENTS:
        raise UserError(
            f"{name} refines the answers of methods by the other queries: give --protocol "
            f"transductive --refine {name}, and in --methods what it refines"
        )
    if base not in ADAPTERS or (base != name and not is_meta_learned(get_adapter(base))):
        accepted = [*ADAPTERS, "all"]
        raise UserError(
            f"no method named {name!r}; the methods are {', '.join(accepted)}"
            + suggestion(name, accepted)
        )
    return get_adapter(base)


def choose_methods(
    names: Sequence[str],
    features: FeatureSpec,
    checkpoints: Sequence[Path] = (),
    *,
    workdir: Path | None = None,
    missing: Mapping[str, str] = MappingProxyType({}),
) -> Chosen:
    """Return the methods that were asked for, in the order of the catalog for ``all``.

    A method that learns across tasks makes two lines where there is a checkpoint of it: trained,
    and ``NAME_untrained`` with its starting parameters. Without one it makes the second only.
    ``all`` leaves out what does not apply to the data, and methods that train the towers.

    Args:
        workdir: where to look for a checkpoint that a method needs and that was not given.
        missing: why an input that methods may need is not at hand, by its name.

    Raises:
        UserError: an unknown name, none at all, or a method by name that does not apply; see
            :func:`~fsclip_jax.fitting.checkpoints.find_checkpoints`.

    Example:
        >>> chosen = choose_methods(["prototype", "meta_adapter"], FeatureSpec(8))
        >>> [method.name for method in chosen.methods]
        ['prototype', 'meta_adapter_untrained']
    """
    asked_for, left_out = applicable(names, missing)
    kept = [name for name in asked_for if name not in left_out]
    wanted = [name for name in kept if name in ADAPTERS and is_meta_learned(get_adapter(name))]
    trained = find_checkpoints(checkpoints, features, wanted, workdir)
    chosen = {m.name: m for name in kept for m in _lines_of(name, trained, features.dim)}
    if "text" in missing:
        chosen = {name: _settled(method) for name, method in chosen.items()}
    return Chosen(tuple(chosen.values()), trained, left_out)


def applicable(
    names: Sequence[str], missing: Mapping[str, str] = MappingProxyType({})
) -> tuple[dict[str, bool], dict[str, str]]:
    """Return what :func:`expand_names` does, and why some of it is left out; see `choose_methods`.

    Commands ask before they load a backbone.

    Raises:
        UserError: an unknown name, none at all, or a method by name that does not apply.
    """
    if not names:
        raise UserError(
            f"no methods to compare; give --methods all, or some of {', '.join(ADAPTERS)}"
        )
    asked_for = expand_names(names)
    left_out = {}
    for name, by_name in asked_for.items():
        why = why_not(name, missing)
        if by_name and why:
            other = "give --methods all, or " if "text" in missing else ""
            raise UserError(f"{why}; {other}leave {name} out of --methods")
        if not by_name and not why and (slow := needs_of(get_adapter(name)) & set(BY_NAME)):
            why = f"{name}: {BY_NAME[min(slow)]}; ask for it by name"
        if why:
            left_out[name] = why
    return asked_for, left_out


def why_not(name: str, missing: Mapping[str, str]) -> str:
    """Why a method does not apply; empty if it does."""
    adapter = adapter_named(name)
    needs = needs_of(adapter) | (set() if runs_without_text(adapter) else {"text"})
    # Text first: who has none has no prompts either.
    lacks = sorted(needs & set(missing), key=lambda need: (need != "text", need))
    return f"{name}: {missing[lacks[0]]}" if lacks else ""


def _settled(method: Method) -> Method:
    """Fix the scalars that weigh against text where there is none."""
    values: Mapping[str, float] = getattr(method.adapter, "without_text", {})
    if not values:
        return method
    params = {**method.params, **{name: jnp.float32(value) for name, value in values.items()}}
    origin = {"split": "none", "rule": "fixed where there is no text", **values}
    return replace(method, params=params, origin=origin, settled=True)


def _lines_of(name: str, checkpoints: Sequence[Checkpoint], dim: int) -> list[Method]:
    base = name.removesuffix(UNTRAINED)
    trained = next((each for each in checkpoints if each.adapter.name == base), None)
    adapter = trained.adapter if trained else get_adapter(base)
    if not is_meta_learned(adapter):
        return [Method(base, adapter, adapter.init(jax.random.key(0), dim))]
    untrained = _untrained(adapter, dim)
    return [_trained(trained), untrained] if trained and base == name else [untrained]


def _untrained(adapter: Adapter, dim: int) -> Method:
    start = adapter.init(jax.random.key(0), dim)
    return Method(adapter.name + UNTRAINED, adapter, start, {"parameters": "untrained"})


def _trained(checkpoint: Checkpoint) -> Method:
    """The line of a checkpoint, with how its parameters were chosen among those of its training."""
    meta = checkpoint.meta
    chosen: dict[str, Any] = {"split": "none", "rule": "last step of the training"}
    if meta.get("val_accuracy") is not None:
        rule = "best step on classes held out of the training"
        chosen = {"split": "val", "rule": rule, "step": meta.get("step")}
    origin = {"parameters": "trained", "checkpoint": str(checkpoint.path), **chosen}
    name = checkpoint.adapter.name
    return Method(name, checkpoint.adapter, checkpoint.params, origin, checkpoint)


def choose_method(
    name: str | None,
    features: FeatureSpec,
    checkpoint: Path | None = None,
    *,
    default: str,
    missing: Mapping[str, str] = MappingProxyType({}),
) -> Method:
    """Return the one method that was asked for.

    Args:
        name: of a method, or ``NAME_untrained``; that of the checkpoint, or ``default``, if None.

    Raises:
        UserError: there is no such method or checkpoint, the two do not belong together, the
            method is meta-learned and has neither, or it needs what is not at hand.
    """
    if checkpoint is not None:
        trained = _trained(read_checkpoint(checkpoint, features))
        if why := why_not(trained.name, missing):
            raise UserError(why)
        if name not in (None, trained.name):
            raise UserError(
                f"the checkpoint {checkpoint} is of {trained.name}, not of {name}; "
                "leave --method out, or give the checkpoint of that method"
            )
        return trained
    name = name or default
    adapter = usable(name, missing)
    if is_meta_learned(adapter):
        return _untrained(adapter, features.dim)
    method = Method(name, adapter, adapter.init(jax.random.key(0), features.dim))
    return _settled(method) if "text" in missing else method


def usable(name: str, missing: Mapping[str, str] = MappingProxyType({})) -> Adapter:
    """Return a method that needs no checkpoint; commands ask before they load a backbone.

    Raises:
        UserError: see :func:`choose_method`.
    """
    adapter = adapter_named(name)
    if "text" in missing and (why := why_not(name, missing)):
        raise UserError(why)
    if is_meta_learned(adapter):
        if name == adapter.name:
            raise UserError(
                f"{name} is meta-trained once before it is used: give --checkpoint with the "
                f"workdir of `fsclip train --method {name}`, or take {name}{UNTRAINED} as it is"
            )
    elif why := why_not(name, missing):
        raise UserError(f"{why}; usable here: {', '.join(usable_names(missing))}")
    return adapter


def usable_names(missing: Mapping[str, str]) -> list[str]:
    """Return the names that :func:`choose_method` accepts without a checkpoint."""
    fitting = [name for name in ADAPTERS if not why_not(name, missing)]
    learned = {name for name in fitting if is_meta_learned(get_adapter(name))}
    return [name + UNTRAINED if name in learned else name for name in fitting]
