"""Compare methods by their detections: read, fit, choose on val, detect, judge, write."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

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
from fsclip_jax.detection.report import JudgedMethod, detection_rows
from fsclip_jax.detection.run import choose_scoring, detect
from fsclip_jax.devices import device_name
from fsclip_jax.durable import only_writer
from fsclip_jax.errors import UserError, say
from fsclip_jax.fitting.checkpoints import FeatureSpec, describe_checkpoint
from fsclip_jax.fitting.methods import Chosen, Method, choose_methods, not_given_by
from fsclip_jax.report.measured import circumstances
from fsclip_jax.report.rows import Report, Row
from fsclip_jax.report.terminal import print_report
from fsclip_jax.report.write import write_report


def compare_detections(config: DetectConfig, console: Console, command: str = "") -> None:
    """Detect with every method and every draw of the support, judge, and write it down.

    Raises:
        UserError: the input is wrong.
    """
    config = with_scenes(config)
    check(config)
    model = _model(config)
    chosen = _methods(config, model)
    tested = _split(config.annotations, config.images, config.proposals, model, "proposals")
    categories = tested.data.categories
    with only_writer(config.out, ".detect.lock", "is detecting", "--out"):
        scored, supported = _fit(config, model, chosen.methods, tested, categories, console)
        found = detect(model, scored, supported, tested, categories)
        judged = []
        for one in scored:
            draws = found[one.name]
            for draw, each in enumerate(draws):
                write_results(config.out / f"{one.name}.{draw}.json", each.results())
            judged.append(
                JudgedMethod(one, [average_precision(tested.data, each) for each in draws])
            )
        rows = detection_rows(tested.data, judged, config.shots)
        report = _report(config, model, tested, chosen, rows)
        write_report(replace(report, command=command), config.out)
    print_report(report, console)
    say(f"wrote report.json and its pages to {config.out}")


def _model(config: DetectConfig) -> Model:
    if config.detector is None:
        return clip_model(load_clip(config.backbone), config.crops)
    kind, _, folder = config.detector.partition(":")
    if kind != "owlvit" or not folder:
        raise UserError(f"--detector is {config.detector!r}; accepted is owlvit:FOLDER")
    return owlvit_model(load_owlvit(Path(folder).expanduser()))


def _methods(config: DetectConfig, model: Model) -> Chosen:
    features = FeatureSpec(model.dim, {"id": model.id, "sha256": model.sha256})
    missing = not_given_by("boxes do not give")
    return choose_methods(config.methods, features, config.checkpoint, missing=missing)


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
        told = partial(console.print, soft_wrap=True, style="dim")
        scored = choose_scoring(model, scored, supported, val, categories, told)
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


def _report(
    config: DetectConfig, model: Model, tested: Split, chosen: Chosen, rows: tuple[Row, ...]
) -> Report:
    return Report(
        kind="detect",
        **circumstances(),
        command="",
        device=device_name(),
        protocol="detect",
        label_space="generalised",
        backbone={"id": model.id, "sha256": model.sha256},
        data={
            "spec": tested.data.source,
            "title": str(config.scenes or Path(tested.data.source).name),
            "n_classes": len(tested.data.categories),
            "n_query": len(tested.data.pictures),
            "n_objects": len(tested.data.boxes),
            "layout": "lvis" if tested.data.federated else "coco",
        },
        rows=rows,
        settings={
            "shots": [config.shots],
            "seeds": config.seeds,
            "crops": None if model.proposes else list(config.crops),
            "detector": config.detector,
            "support": str(config.support_annotations),
            "val": None if config.val_annotations is None else str(config.val_annotations),
            "objects": len(tested.data.boxes),
        },
        checkpoints=tuple(map(describe_checkpoint, chosen.checkpoints)),
    )
