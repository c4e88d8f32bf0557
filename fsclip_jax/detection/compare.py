"""Compare methods by their detections: read, fit, choose on val, detect, judge, write."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from fsclip_jax import __version__
from fsclip_jax.clip.load import load_clip
from fsclip_jax.data.coco_files import Category, read_boxes, read_proposals, write_results
from fsclip_jax.detection.average_precision import average_precision
from fsclip_jax.detection.broken import leave_out_unreadable, plan_readable
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
from fsclip_jax.detection.support import SupportPlan
from fsclip_jax.devices import device_name
from fsclip_jax.durable import only_writer
from fsclip_jax.errors import UserError, say
from fsclip_jax.fitting.checkpoints import FeatureSpec, describe_checkpoint
from fsclip_jax.fitting.inputs import not_given_by
from fsclip_jax.fitting.methods import Chosen, Method, applicable, choose_methods
from fsclip_jax.interim import Interim, content_sum
from fsclip_jax.report.measured import circumstances
from fsclip_jax.report.rows import Report, Row, refuse_other_data
from fsclip_jax.report.terminal import print_report
from fsclip_jax.report.write import write_report


def compare_detections(config: DetectConfig, console: Console, command: str = "") -> None:
    """Detect with every method and every draw of the support, judge, and write it down.

    Raises:
        UserError: the input is wrong.
    """
    applicable(config.methods, _NOT_GIVEN)
    config = with_scenes(config)
    check(config)
    model = _model(config)
    chosen = _methods(config, model)
    with only_writer(config.out, ".detect.lock", "is detecting", "--out"):
        inputs = _inputs(config, model)
        refuse_other_data(config.out, inputs.tested.data.source)
        interim = Interim(
            config.out / ".detect.interim", _made_with(config, model, chosen, inputs), say
        )
        scored, supported = _fit(model, chosen.methods, inputs, interim, console)
        tested, categories = inputs.tested, inputs.categories
        found = detect(model, scored, supported, tested, categories, interim)
        judged = []
        for one in scored:
            draws = found[one.name]
            for draw, each in enumerate(draws):
                write_results(config.out / f"{one.name}.{draw}.json", each.results())
            judged.append(
                JudgedMethod(one, [average_precision(tested.data, each) for each in draws])
            )
        rows = detection_rows(tested.data, judged, config.shots)
        report = _report(config, model, inputs, chosen, rows)
        write_report(replace(report, command=command), config.out)
        interim.finish()
    print_report(report, console)
    say(f"wrote report.json and its pages to {config.out}")


class Inputs(NamedTuple):
    """What is judged on, what settings are chosen on, and what is learned from."""

    tested: Split
    val: Split | None
    support: Split
    plan: SupportPlan
    left_out: Mapping[str, tuple[str, ...]]
    """Names of the pictures that could not be read, by split."""

    @property
    def categories(self) -> Sequence[Category]:
        """Classes of the pictures that are judged on."""
        return self.tested.data.categories


def _inputs(config: DetectConfig, model: Model) -> Inputs:
    """Read all annotations, and leave out pictures that cannot be read."""
    left_out: dict[str, tuple[str, ...]] = {}
    tested = _split(config.annotations, config.images, config.proposals, model, "proposals")
    support_images = config.support_images or config.images
    support = _split(config.support_annotations, support_images, None, model, "")
    _refuse_shared(support, tested, "support")
    val = None
    if config.val_annotations is not None:
        folder = config.val_images or config.images
        val = _split(config.val_annotations, folder, config.val_proposals, model, "val-proposals")
        _refuse_shared(val, tested, "val")
        val, left_out["val"] = leave_out_unreadable(val, "val")
    tested, left_out["test"] = leave_out_unreadable(tested, "test")
    drawing = support, tested.data.categories, config.shots, config.seeds
    plan, left_out["support"] = plan_readable(*drawing)
    return Inputs(
        tested, val, support, plan, {name: some for name, some in left_out.items() if some}
    )


def _made_with(
    config: DetectConfig, model: Model, chosen: Chosen, inputs: Inputs
) -> dict[str, Any]:
    """All that detections depend on."""
    splits = [split for split in (inputs.tested, inputs.val) if split is not None]
    pictures = [split.folder / one.file_name for split in splits for one in split.data.pictures]
    pictures += [inputs.support.folder / need.picture.file_name for need in inputs.plan.needed]
    files = (
        config.annotations,
        config.proposals,
        config.support_annotations,
        config.val_annotations,
        config.val_proposals,
    )
    return {
        "version": __version__,
        "model": [model.id, model.sha256, config.crops],
        "device": device_name(),
        "methods": [
            [one.name, one.trained.meta.get("sha256") if one.trained else None]
            for one in chosen.methods
        ],
        "draws": [config.shots, config.seeds],
        "files": content_sum(file for file in files if file is not None),
        "pictures": content_sum(pictures),
        "left_out": inputs.left_out,
    }


def _model(config: DetectConfig) -> Model:
    if config.detector is None:
        return clip_model(load_clip(config.backbone), config.crops)
    kind, _, folder = config.detector.partition(":")
    if kind != "owlvit" or not folder:
        raise UserError(f"--detector is {config.detector!r}; accepted is owlvit:FOLDER")
    return owlvit_model(load_owlvit(Path(folder).expanduser()))


_NOT_GIVEN = not_given_by("boxes do not give")


def _methods(config: DetectConfig, model: Model) -> Chosen:
    features = FeatureSpec(model.dim, {"id": model.id, "sha256": model.sha256})
    return choose_methods(config.methods, features, config.checkpoint, missing=_NOT_GIVEN)


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
    model: Model, methods: Sequence[Method], inputs: Inputs, interim: Interim, console: Console
) -> tuple[list[ScoredMethod], Supported]:
    """Fit to the support, with settings chosen on val where there is one."""
    val, categories, objects = inputs.val, inputs.categories, None
    if val is not None:
        objects = encode_objects(model, val, categories, interim)
    supported = encode_support(model, inputs.support.folder, inputs.plan, categories, interim)
    scored = fit_methods(methods, supported, objects)
    if val is not None:
        told = partial(console.print, soft_wrap=True, style="dim")
        scored = choose_scoring(model, scored, supported, val, categories, interim, told)
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
    config: DetectConfig, model: Model, inputs: Inputs, chosen: Chosen, rows: tuple[Row, ...]
) -> Report:
    tested = inputs.tested
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
            "title": Path(config.scenes or tested.data.source).name,
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
            **({"left_out": inputs.left_out} if inputs.left_out else {}),
        },
        checkpoints=tuple(map(describe_checkpoint, chosen.checkpoints)),
    )
