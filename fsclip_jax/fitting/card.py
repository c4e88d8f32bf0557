"""What the model card of an adapter, or of a classifier that was fitted with it, says of both."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from fsclip_jax import __version__
from fsclip_jax.adapters.base import Adapter, is_meta_learned
from fsclip_jax.features.licences import base_model, licences_of
from fsclip_jax.report.card import Card, HeldOutFigures, accuracy_of
from fsclip_jax.typing import Params

FEW_SHOT = "zero-shot-image-classification"
"""What the hub files a method under that takes any classes."""


class Origin(NamedTuple):
    """How what a card describes was made.

    Attributes:
        meta: description of the trained parameters, and of the CLIP.
        checkpoint: where the parameters are from; a report beside them is read.
    """

    adapter: Adapter
    params: Params
    meta: Mapping[str, Any]
    command: str = ""
    checkpoint: Path | None = None


def card_of(
    origin: Origin,
    *,
    facts: Sequence[tuple[str, Any]] = (),
    data: Sequence[str] = (),
    held_out: HeldOutFigures | None = None,
    task: str = FEW_SHOT,
    **texts: str,
) -> Card:
    """Collect what is known; ``texts`` are the title, the purpose and the use."""
    place, trained_on = origin.checkpoint, origin.meta.get("data")
    spec = trained_on.get("spec") if isinstance(trained_on, Mapping) else None
    backbone = origin.meta.get("backbone")
    backbone = backbone if isinstance(backbone, str) else None
    name = origin.adapter.name
    return Card(
        **texts,
        facts=[*facts, *_facts(origin)],
        method=name,
        backbone=base_model(backbone),
        licences=licences_of(backbone, [*data, *([str(spec)] if spec else [])]),
        task=task,
        accuracy=accuracy_of(place if place is None or place.is_dir() else place.parent, name),
        held_out=held_out,
    )


def dotted(path: Sequence[Any]) -> str:
    """Return the name that a parameter has in a file."""
    return ".".join(str(step.key) for step in path)


def _facts(origin: Origin) -> list[tuple[str, Any]]:
    adapter, params, meta = origin.adapter, origin.params, origin.meta
    data, train = (
        each if isinstance(each, Mapping) else {} for each in (meta.get("data"), meta.get("train"))
    )
    scalars = {
        dotted(path): float(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        if not is_meta_learned(adapter) and np.ndim(leaf) == 0
    }
    return [
        ("method", adapter.name),
        ("settings", dataclasses.asdict(adapter)),  # type: ignore[call-overload]
        ("scalars", scalars),
        ("backbone", meta.get("backbone")),
        ("sha256 of the backbone", meta.get("backbone_sha256")),
        ("trained on", data.get("spec")),
        ("classes of the training", train.get("classes")),
        ("step", meta.get("step")),
        ("accuracy on held-out classes, percent", meta.get("val_accuracy")),
        ("sha256 of the parameters", meta.get("sha256")),
        ("made by", f"fsclip_jax {__version__}, jax {jax.__version__}"),
        ("command", origin.command),
    ]
