"""The methods of a comparison: the catalog's, and a trained adapter beside its untrained self."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax

from fsclip_jax.adapters.base import Adapter
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.adapters.checkpoint import WEIGHTS_FILE, restore_adapter
from fsclip_jax.errors import UserError, suggestion
from fsclip_jax.evaluation.selection import SEARCHED
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.typing import Params

UNTRAINED = "_untrained"
"""What the name of a method with its starting parameters ends in."""


@dataclass(frozen=True)
class Method:
    """One line of the table.

    Attributes:
        name: what the report calls it.
        adapter: the method.
        params: its parameters, before any selection.
        origin: where learned parameters came from, for the report; empty if there are none.
    """

    name: str
    adapter: Adapter
    params: Params
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def searched(self) -> bool:
        """Whether its parameters are scalars that are searched and not learned."""
        return self.adapter.name in SEARCHED


@dataclass(frozen=True)
class Checkpoint:
    """A trained adapter.

    Attributes:
        path: the workdir.
        adapter: the method, with the static settings it was trained with.
        params: the trained parameters.
        meta: what else is known of the training.
    """

    path: Path
    adapter: Adapter
    params: Params
    meta: Mapping[str, Any]


def find_checkpoint(given: Path | None, workdir: Path, stored: StoredBank) -> Checkpoint | None:
    """Read the trained adapter that was asked for, or the one of the workdir if there is one.

    Args:
        given: a train workdir; ``None`` looks into ``workdir``.
        workdir: folder of the experiment.
        stored: the bank it is to be applied to.

    Returns:
        The checkpoint; ``None`` if none was asked for and there is none.

    Raises:
        UserError: there is no checkpoint where one was asked for, it is damaged, or its features
            are of another width or backbone than the bank's.
    """
    if given is None and not (workdir / WEIGHTS_FILE).is_file():
        return None
    path = workdir if given is None else given
    if not path.exists():
        raise UserError(f"no checkpoint at {path}; give the workdir of a finished `fsclip train`")
    backbone = stored.manifest["backbone"]
    known = backbone.get("sha256")
    adapter, params, meta = restore_adapter(path, dim=stored.dim, backbone_sha256=known)
    mine, theirs = meta.get("backbone"), backbone.get("id")
    same_file = bool(known) and known == meta.get("backbone_sha256")
    unknown = (None, "", "unknown")
    if not same_file and mine not in unknown and theirs not in unknown and mine != theirs:
        raise UserError(
            f"checkpoint {path} was trained on the backbone {mine}, the features are of {theirs}; "
            "use the same backbone for both"
        )
    return Checkpoint(path, adapter, params, meta)


def choose_methods(
    names: Sequence[str], checkpoint: Checkpoint | None, dim: int
) -> tuple[Method, ...]:
    """Return the methods that were asked for, in the order of the catalog for ``all``.

    A method that learns across tasks makes two lines where there is a checkpoint of it: trained,
    and ``NAME_untrained`` with its starting parameters. Without one it makes the second only.

    Args:
        names: names of methods, or ``all``.
        checkpoint: a trained adapter, if there is one.
        dim: width of the features.

    Returns:
        The methods, each once.

    Raises:
        UserError: an unknown name, or none at all.

    Example:
        >>> [method.name for method in choose_methods(["prototype", "meta_adapter"], None, 8)]
        ['prototype', 'meta_adapter_untrained']
    """
    if not names:
        raise UserError(
            f"no methods to compare; give --methods all, or some of {', '.join(ADAPTERS)}"
        )
    chosen: dict[str, Method] = {}
    for name in names:
        for method in _named(name, checkpoint, dim):
            chosen[method.name] = method
    return tuple(chosen.values())


def _named(name: str, checkpoint: Checkpoint | None, dim: int) -> list[Method]:
    if name == "all":
        return [method for known in ADAPTERS for method in _named(known, checkpoint, dim)]
    base = name.removesuffix(UNTRAINED)
    if base not in ADAPTERS or (base != name and not _learns(get_adapter(base), dim)):
        accepted = [*ADAPTERS, "all"]
        raise UserError(
            f"no method named {name!r}; the methods are {', '.join(accepted)}"
            + suggestion(name, accepted)
        )
    trained = checkpoint if checkpoint and checkpoint.adapter.name == base else None
    adapter = trained.adapter if trained else get_adapter(base)
    start = adapter.init(jax.random.key(0), dim)
    if not _learns(adapter, dim):
        return [Method(base, adapter, start)]
    methods = [Method(base + UNTRAINED, adapter, start, {"parameters": "untrained"})]
    if trained and base == name:
        origin = {"parameters": "trained", "checkpoint": str(trained.path), **_told(trained.meta)}
        methods.insert(0, Method(base, adapter, trained.params, origin))
    return methods


def _learns(adapter: Adapter, dim: int) -> bool:
    """Whether the method has parameters that are learned, and not searched."""
    if adapter.name in SEARCHED:
        return False
    made = jax.eval_shape(lambda: adapter.init(jax.random.key(0), dim))
    return bool(jax.tree.leaves(made))


def _told(meta: Mapping[str, Any]) -> dict[str, Any]:
    """How the parameters of a checkpoint were chosen among those of its training."""
    if meta.get("val_accuracy") is None:
        return {"split": "none", "rule": "last step of the training"}
    rule = "best step on classes held out of the training"
    return {"split": "val", "rule": rule, "step": meta.get("step")}


def describe_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what the report says of a checkpoint, as JSON values."""
    meta = checkpoint.meta
    data, classes = _trained_on(meta)
    told = {
        "path": str(checkpoint.path),
        "method": checkpoint.adapter.name,
        "trained_on": (data or {}).get("spec"),
        "classes": classes,
        "step": meta.get("step"),
        "val_accuracy": meta.get("val_accuracy"),
        "sha256": meta.get("sha256"),
    }
    return {name: value for name, value in told.items() if value is not None}


def training_warnings(
    checkpoint: Checkpoint | None, stored: StoredBank, groups: Sequence[str], query_split: str
) -> list[str]:
    """Say where a trained adapter has seen classes or images that it is evaluated on.

    Args:
        checkpoint: the trained adapter, if there is one.
        stored: the bank that is evaluated.
        groups: names of the groups of the report.
        query_split: split of the query images.

    Returns:
        One line a matter; empty where the evaluation is clean.
    """
    if checkpoint is None:
        return []
    name, here = checkpoint.adapter.name, stored.manifest["data"]
    data, classes = _trained_on(checkpoint.meta)
    if data is None:
        return [f"{name}: the checkpoint does not say what data it was trained on"]
    if all(data.get(part) != here.get(part) for part in ("spec", "version")):
        return []
    lines = []
    everything = classes != "base"
    if everything and any(group in ("novel", "test") for group in groups):
        lines.append(
            f"{name} was meta-trained on all classes of this data: no class here is new to it"
        )
    elif "test" in groups:
        lines.append(
            f"{name} was meta-trained on the base half of these classes: see cross_category for "
            "classes that are new to it"
        )
    if query_split == "val" and (everything or any(g in ("base", "test") for g in groups)):
        lines.append(f"{name}: its checkpoint was chosen on val images of some of these classes")
    return lines


def _trained_on(meta: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str | None]:
    """Data and classes that an adapter was trained on, as far as its description says."""
    data, train = meta.get("data"), meta.get("train")
    classes = train.get("classes") if isinstance(train, Mapping) else None
    return (data if isinstance(data, Mapping) else None), classes
