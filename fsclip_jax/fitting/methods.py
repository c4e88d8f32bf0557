"""The methods of a comparison: the catalog's, and a trained adapter beside its untrained self."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax

from fsclip_jax.adapters.base import Adapter, grids_of, is_meta_learned, needs_of
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.adapters.checkpoint import WEIGHTS_FILE, restore_adapter
from fsclip_jax.errors import UserError, suggestion
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
        return bool(grids_of(self.adapter))


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


def find_checkpoints(
    given: Sequence[Path], workdir: Path, stored: StoredBank
) -> tuple[Checkpoint, ...]:
    """Read the trained adapters that were asked for, or those of the workdir if there are any.

    Args:
        given: train workdirs; if there are none, ``workdir`` is looked into, and its subfolders
            named after a method.
        workdir: folder of the experiment.
        stored: the bank they are to be applied to.

    Returns:
        One checkpoint a method.

    Raises:
        UserError: there is no checkpoint where one was asked for, it is damaged, two are of the
            same method, or its features are of another width or backbone than the bank's.
    """
    places = given or [
        folder
        for folder in (workdir, *(workdir / name for name in ADAPTERS))
        if (folder / WEIGHTS_FILE).is_file()
    ]
    found: dict[str, Checkpoint] = {}
    backbone = stored.manifest["backbone"]
    for checkpoint in (read_checkpoint(path, stored.dim, backbone) for path in places):
        other = found.setdefault(checkpoint.adapter.name, checkpoint)
        if other is not checkpoint:
            raise UserError(
                f"{other.path} and {checkpoint.path} both hold a {other.adapter.name}; give "
                "--checkpoint with one folder per method"
            )
    return tuple(found.values())


def read_checkpoint(path: Path, dim: int, backbone: Mapping[str, Any]) -> Checkpoint:
    """Read a trained adapter that is to be applied to features at hand.

    Args:
        path: workdir of the training.
        dim: width of the features.
        backbone: ``id`` and ``sha256`` of what made them, as far as they are known.

    Returns:
        The checkpoint.

    Raises:
        UserError: there is none, it is damaged, or it is of other features.
    """
    if not path.exists():
        raise UserError(f"no checkpoint at {path}; give the workdir of a finished `fsclip train`")
    known = backbone.get("sha256")
    adapter, params, meta = restore_adapter(path, dim=dim, backbone_sha256=known)
    mine, theirs = meta.get("backbone"), backbone.get("id")
    same_file = bool(known) and known == meta.get("backbone_sha256")
    unknown = (None, "", "unknown")
    if not same_file and mine not in unknown and theirs not in unknown and mine != theirs:
        raise UserError(
            f"checkpoint {path} was trained on the backbone {mine}, the features are of {theirs}; "
            "use the same backbone for both"
        )
    return Checkpoint(path, adapter, params, meta)


@dataclass(frozen=True)
class Chosen:
    """The methods of a comparison.

    Attributes:
        methods: each once.
        left_out: why a method of ``all`` is not among them, by its name.
    """

    methods: tuple[Method, ...]
    left_out: Mapping[str, str]


LEARNS_PROMPTS = "words"
"""Methods that need this train through the text tower; ``all`` leaves them out, they take long."""


def choose_methods(
    names: Sequence[str],
    checkpoints: Sequence[Checkpoint],
    dim: int,
    missing: Mapping[str, str] = MappingProxyType({}),
) -> Chosen:
    """Return the methods that were asked for, in the order of the catalog for ``all``.

    A method that learns across tasks makes two lines where there is a checkpoint of it: trained,
    and ``NAME_untrained`` with its starting parameters. Without one it makes the second only.
    ``all`` leaves out what does not apply to the data, and methods that learn prompts.

    Args:
        names: names of methods, or ``all``.
        checkpoints: trained adapters.
        dim: width of the features.
        missing: why an input that methods may need is not at hand, by its name.

    Returns:
        The methods, each once, and what was left out.

    Raises:
        UserError: an unknown name, none at all, or a method by name that does not apply.

    Example:
        >>> chosen = choose_methods(["prototype", "meta_adapter"], (), 8)
        >>> [method.name for method in chosen.methods]
        ['prototype', 'meta_adapter_untrained']
    """
    if not names:
        raise UserError(
            f"no methods to compare; give --methods all, or some of {', '.join(ADAPTERS)}"
        )
    chosen: dict[str, Method] = {}
    left_out: dict[str, str] = {}
    for name in names:
        for known in ADAPTERS if name == "all" else [name]:
            needs = needs_of(_known(known))
            lacks = sorted(needs & set(missing))
            why = f"{known}: {missing[lacks[0]]}" if lacks else ""
            if name == "all" and LEARNS_PROMPTS in needs and not why:
                why = f"{known}: trains through the text tower; ask for it by name"
            if why and name != "all":
                raise UserError(f"{why}; leave {known} out of --methods")
            if why:
                left_out[known] = why
                continue
            for method in _named(known, checkpoints, dim):
                chosen[method.name] = method
    left_out = {name: why for name, why in left_out.items() if name not in chosen}
    return Chosen(tuple(chosen.values()), left_out)


def _known(name: str) -> Adapter:
    """The method of that name, or of that name with ``_untrained`` at its end."""
    base = name.removesuffix(UNTRAINED)
    if base not in ADAPTERS or (base != name and not is_meta_learned(get_adapter(base))):
        accepted = [*ADAPTERS, "all"]
        raise UserError(
            f"no method named {name!r}; the methods are {', '.join(accepted)}"
            + suggestion(name, accepted)
        )
    return get_adapter(base)


def _named(name: str, checkpoints: Sequence[Checkpoint], dim: int) -> list[Method]:
    """The lines of one method of the catalog."""
    base = name.removesuffix(UNTRAINED)
    trained = next((each for each in checkpoints if each.adapter.name == base), None)
    adapter = trained.adapter if trained else get_adapter(base)
    start = adapter.init(jax.random.key(0), dim)
    if not is_meta_learned(adapter):
        return [Method(base, adapter, start)]
    methods = [Method(base + UNTRAINED, adapter, start, {"parameters": "untrained"})]
    if trained and base == name:
        origin = {"parameters": "trained", "checkpoint": str(trained.path), **_told(trained.meta)}
        methods.insert(0, Method(base, adapter, trained.params, origin))
    return methods


def _told(meta: Mapping[str, Any]) -> dict[str, Any]:
    """How the parameters of a checkpoint were chosen among those of its training."""
    if meta.get("val_accuracy") is None:
        return {"split": "none", "rule": "last step of the training"}
    rule = "best step on classes held out of the training"
    return {"split": "val", "rule": rule, "step": meta.get("step")}
