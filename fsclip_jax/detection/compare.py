"""Compare methods by their detections: read, fit, choose on val, detect, judge, write."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from fsclip_jax import __version__
from fsclip_jax.clip.load import load_clip
from fsclip_jax.data.coco_files import Category, read_boxes, read_proposals, write_results
from fsclip_jax.detection.average_precision import average_precision
from fsclip_jax.detection.config import DetectConfig, check, with_scenes
from fsclip_jax.detection.fitting import (
    ScoredMethod,
    Split,
    Supported,
    encode_objects,
    encode_support,
    fit_methods,
)
from fsclip_jax.detection.models import Model, clip_model, owlvit_model
from fsclip_jax.detection.owlvit_load import load_owlvit
from fsclip_jax.detection.report import Measured, make_rows, print_table, write_report
from fsclip_jax.detection.run import choose_scoring, detect
from fsclip_jax.durable import only_writer
from fsclip_jax.errors import UserError
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.methods import Method, choose_methods, not_given_by


def compare(config: DetectConfig, console: Console) -> None:
    """Detect with every method and every draw of the support, judge, and write it down.

    Args:
        config: the flags.
        console: told of the progress and the result.

    Raises:
        UserError: the input is wrong.
    """
    config = with_scenes(config)
    check(config)
    model = _model(config)
    methods = _methods(config, model)
    tested = _split(config.annotations, config.images, config.proposals, model, "proposals")
    categories = tested.data.categories
    with only_writer(config.out, ".detect.lock", "is detecting", "--out"):
        scored, supported = _fit(config, model, methods, tested, categories, console)
        found = detect(model, scored, supported, tested, categories)
        measured = []
        for one in scored:
            draws = found[one.name]
            for draw, each in enumerate(draws):
                write_results(config.out / f"{one.name}.{draw}.json", each.results())
            precisions = [average_precision(tested.data, each) for each in draws]
            measured.append(Measured(one.name, precisions, one.selection))
        rows = make_rows(tested.data, measured, config.shots)
        write_report(
            config.out / "detection.json", {**_header(config, model, tested), "rows": rows}
        )
    print_table(rows, console)
    console.print(f"{config.out / 'detection.json'}: {config.shots} shots, {config.seeds} draws")


def _model(config: DetectConfig) -> Model:
    if config.detector is None:
        return clip_model(load_clip(config.backbone), config.crops)
    kind, _, folder = config.detector.partition(":")
    if kind != "owlvit" or not folder:
        raise UserError(f"--detector is {config.detector!r}; accepted is owlvit:FOLDER")
    return owlvit_model(load_owlvit(Path(folder).expanduser()))


def _methods(config: DetectConfig, model: Model) -> tuple[Method, ...]:
    features = FeatureSpec(model.dim, {"id": model.id, "sha256": model.sha256})
    missing = not_given_by("boxes do not give")
    return choose_methods(config.methods, features, config.checkpoint, missing=missing).methods


def _split(
    annotations: Path | None, images: Path | None, proposals: Path | None, model: Model, flag: str
) -> Split:
    assert annotations is not None  # ``check`` has seen to it, and to the folder
    assert images is not None
    if not images.is_dir():
        raise UserError(f"{images} is no folder; give the folder of the images of {annotations}")
    data = read_boxes(annotations)
    if model.proposes or flag == "":
        return Split(data, images, {})
    if proposals is None:
        raise UserError(f"--{flag} is missing; a CLIP classifies given boxes, it finds none")
    return Split(data, images, read_proposals(proposals, data.pictures))


def _fit(
    config: DetectConfig,
    model: Model,
    methods: Sequence[Method],
    tested: Split,
    categories: Sequence[Category],
    console: Console,
) -> tuple[list[ScoredMethod], Supported]:
    """Fit to the support, with settings chosen on val where there is one."""
    support_images = config.support_images or config.images
    drawn = _split(config.support_annotations, support_images, None, model, "")
    _refuse_shared(drawn, tested, "support")
    val, objects = None, None
    if config.val_annotations is not None:
        folder = config.val_images or config.images
        val = _split(config.val_annotations, folder, config.val_proposals, model, "val-proposals")
        _refuse_shared(val, tested, "val")
        objects = encode_objects(model, val, categories)
    supported = encode_support(model, drawn, categories, config.shots, config.seeds)
    scored = fit_methods(methods, supported, objects)
    if val is not None:
        say = partial(console.print, soft_wrap=True, style="dim")
        scored = choose_scoring(model, scored, supported, val, categories, say)
    return scored, supported


def _refuse_shared(some: Split, tested: Split, name: str) -> None:
    """No picture is both judged on and learned from."""
    files = {(tested.folder / picture.file_name).absolute() for picture in tested.data.pictures}
    shared = [p for p in some.data.pictures if (some.folder / p.file_name).absolute() in files]
    used = {box.image for box in some.data.boxes}
    shared = [picture for picture in shared if picture.id in used]
    if shared:
        raise UserError(
            f"{len(shared)} pictures of --{name}-annotations are also judged on, such as "
            f"{shared[0].file_name}; give other pictures for one of the two"
        )


def _header(config: DetectConfig, model: Model, tested: Split) -> dict[str, Any]:
    return {
        "schema": 1,
        "kind": "detection",
        "fsclip_version": __version__,
        "device": jax.devices()[0].device_kind,
        "model": {"id": model.id, "sha256": model.sha256},
        "crops": None if model.proposes else list(config.crops),
        "data": {
            "annotations": tested.data.source,
            "layout": "lvis" if tested.data.federated else "coco",
            "n_images": len(tested.data.pictures),
            "n_objects": len(tested.data.boxes),
            "n_classes": len(tested.data.categories),
            "support": str(config.support_annotations),
            "val": None if config.val_annotations is None else str(config.val_annotations),
        },
        "shots": config.shots,
        "draws": config.seeds,
    }
