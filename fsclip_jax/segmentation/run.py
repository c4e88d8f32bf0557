"""From a folder of scenes to a report of mean intersections over union."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fsclip_jax import __version__
from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.data.templates import BARE, prompts
from fsclip_jax.devices import device_name
from fsclip_jax.durable import only_writer
from fsclip_jax.features.text import class_text_features
from fsclip_jax.fitting.checkpoints import FeatureSpec, describe_checkpoint
from fsclip_jax.fitting.inputs import not_given_by
from fsclip_jax.fitting.methods import Chosen, applicable, choose_methods
from fsclip_jax.interim import Interim, content_sum
from fsclip_jax.report.measured import circumstances, rows_of
from fsclip_jax.report.rows import Report, refuse_other_data
from fsclip_jax.report.write import write_report
from fsclip_jax.segmentation.annotated import (
    Annotated,
    draw_shots,
    leave_out_unreadable,
    read_split,
)
from fsclip_jax.segmentation.background import best_threshold, fit_line
from fsclip_jax.segmentation.compare import SegmentationSetting, compare_segmentations
from fsclip_jax.segmentation.config import SegmentConfig, check_segment_config
from fsclip_jax.segmentation.dense import lattice_of
from fsclip_jax.segmentation.lattice import MOST_POINTS, Lattice
from fsclip_jax.segmentation.parts import MOST_PIXELS
from fsclip_jax.segmentation.prepare import Points, cut_parts, encode_points, object_features

_PHOTO = ("a photo of a {}.",)

Say = Callable[[str], None]


SPLITS = ("train", "val", "test", "support")
"""Splits of a folder of scenes that are read."""


def read_splits(
    scenes: Path, lattices: Sequence[Lattice]
) -> tuple[dict[str, Annotated], dict[str, tuple[str, ...]]]:
    """Read all splits, and leave out pictures that cannot be read or are too large.

    Returns:
        The splits, and the names of the pictures that were left out of each.
    """

    def too_large(height: int, width: int) -> bool:
        points = max(max(one.shape(height, width)) for one in lattices)
        return height * width > MOST_PIXELS or points > MOST_POINTS

    whole = {name: read_split(scenes, name) for name in SPLITS}
    found = {name: leave_out_unreadable(split, too_large) for name, split in whole.items()}
    splits = {name: split for name, (split, _) in found.items()}
    return splits, {name: names for name, (_, names) in found.items() if names}


def prepare_scenes(
    backbone: Backbone,
    splits: Mapping[str, Annotated],
    windows: Sequence[int],
    segments: bool,
    interim: Interim,
    say: Say,
) -> tuple[SegmentationSetting, dict[str, Any]]:
    """Encode the scenes and find the rule that tells things from background.

    Sides of ``windows`` are in pixels of the pictures. ``segments`` cuts these along edges, else
    into squares of 4 x 4 pixels.
    """
    points: dict[str, tuple[Points, ...]] = {}
    for name, split in splits.items():
        say(f"encoding {len(split.images)} pictures of {name}")
        points[name] = tuple(encode_points(backbone, split, one, interim) for one in windows)
    lines = [fit_line(one.features, one.labels > 0) for one in points["train"]]

    def thing_scores(name: str) -> tuple[Any, np.ndarray]:
        say(f"cutting {name} into parts")
        parts = cut_parts(splits[name], points[name], segments, interim)
        values = [
            (one.features @ line.weights + line.bias)[:, None]
            for one, line in zip(points[name], lines, strict=True)
        ]
        return parts, parts.average(points[name], values)[:, 0]

    val_parts, val_scores = thing_scores("val")
    threshold = best_threshold(val_scores, val_parts.counts)
    test_parts, test_scores = thing_scores("test")

    classes = splits["test"].classes
    template = BARE if backbone.id == "mini" else _PHOTO
    asked = [prompts(name, template) for name in classes.names]
    found = [object_features(splits["support"], one) for one in points["support"]]
    ready = SegmentationSetting(
        text=class_text_features(backbone, asked).text,
        logit_scale=backbone.logit_scale,
        novel=np.array(classes.novel),
        support=tuple(features for features, _ in found),
        val=points["val"],
        test=points["test"],
        parts=test_parts,
        things=test_scores >= threshold,
    )
    rule = {
        "rule": "logistic regression on train scenes; threshold by the overlap on val scenes",
        "threshold": round(threshold, 6),
    }
    return ready, rule


_NOT_GIVEN = not_given_by("a scene does not give")


def gather_methods(config: SegmentConfig, backbone: Backbone) -> Chosen:
    """Find the methods by name, as ``choose_methods`` does; zero-shot first.

    Raises:
        UserError: a method is unknown, or needs what patches do not give.
    """
    features = FeatureSpec(backbone.embed_dim, {"id": backbone.id, "sha256": backbone.sha256})
    chosen = choose_methods(config.methods, features, config.checkpoint, missing=_NOT_GIVEN)
    methods = sorted(chosen.methods, key=lambda method: method.name != "zero_shot")
    return replace(chosen, methods=tuple(methods))


def segment_scenes(config: SegmentConfig, command: str = "", say: Say = lambda _: None) -> Report:
    """Compare methods on a folder of scenes and write the report.

    Raises:
        UserError: the input is wrong, or the result cannot be written.
    """
    applicable(config.methods, _NOT_GIVEN)
    check_segment_config(config)
    read_split(config.scenes, "test")  # before anything is loaded
    clip = load_clip(config.backbone)
    clip.reader()  # says so where there is no text
    chosen = gather_methods(config, clip)
    with only_writer(config.out, ".segment.lock", "is segmenting", "--out"):
        refuse_other_data(config.out, str(config.scenes))
        windows = config.windows or default_windows(clip)
        splits, left_out = read_splits(config.scenes, [lattice_of(clip, one) for one in windows])
        draws = _draws(config, splits["support"])
        made_with = _made_with(config, clip, chosen, splits)
        interim = Interim(config.out / ".segment.interim", made_with, say)
        ready, rule = prepare_scenes(clip, splits, windows, config.segments, interim, say)
        measured, of_classes = compare_segmentations(ready, chosen.methods, draws, interim, say)
        report = Report(
            kind="segment",
            **circumstances(),
            command=command,
            device=device_name(),
            protocol="segment",
            label_space="generalised",
            backbone={"id": clip.id, "sha256": clip.sha256},
            data=_described(config, splits["test"], of_classes),
            rows=rows_of(measured),
            settings={
                "shots": list(config.shots),
                "seeds": config.seeds,
                "windows": list(windows),
                "segments": config.segments,
                "background": rule,
                **({"left_out": left_out} if left_out else {}),
            },
            checkpoints=tuple(map(describe_checkpoint, chosen.checkpoints)),
        )
        write_report(report, config.out)
        interim.finish()
    return report


def _made_with(
    config: SegmentConfig, clip: Backbone, chosen: Chosen, splits: Mapping[str, Annotated]
) -> dict[str, Any]:
    """All that segmentations depend on."""
    pictures = [
        file for s in splits.values() for index in range(len(s.images)) for file in s.files(index)
    ]
    return {
        "version": __version__,
        "backbone": [clip.id, clip.sha256],
        "device": device_name(),
        "methods": [
            [one.name, one.trained.meta.get("sha256") if one.trained else None]
            for one in chosen.methods
        ],
        "settings": [config.shots, config.seeds, config.windows, config.segments],
        "files": content_sum(config.scenes / f"{name}.json" for name in SPLITS),
        "pictures": content_sum(pictures),
    }


def _draws(config: SegmentConfig, labelled: Annotated) -> dict[int, np.ndarray]:
    """Positions of the labelled objects of every draw, by number of shots."""
    objects, ids = labelled.objects, labelled.classes.ids
    return {
        shots: np.stack([draw_shots(objects, ids, shots, seed) for seed in range(config.seeds)])
        for shots in config.shots
    }


def _described(
    config: SegmentConfig, test: Annotated, of_classes: Mapping[tuple[str, int], np.ndarray]
) -> dict[str, Any]:
    """What was segmented, and how well each class came out."""
    return {
        "spec": str(config.scenes),
        "title": config.scenes.name,
        "n_classes": len(test.classes.names),
        "n_query": len(test.images),
        "classes": [
            {"name": name, "novel": novel}
            for name, novel in zip(test.classes.names, test.classes.novel, strict=True)
        ],
        "class_iou": [
            {"method": method, "shots": shots, "background_and_classes": ious.tolist()}
            for (method, shots), ious in of_classes.items()
        ],
    }


def default_windows(backbone: Backbone) -> tuple[int, ...]:
    """Return the sides of windows to use unless given.

    A tower with patches sees windows of its own size and twice that. One without, as the bundled
    CLIP's, sees windows of 64 pixels: of 48, 64, 96 and their combinations the best on val scenes.
    """
    size = backbone.image_size
    return (64,) if backbone.config.vision.grid == 1 else (size, 2 * size)
