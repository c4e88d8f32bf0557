"""From a folder of scenes to a table of mean intersections over union."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fsclip_jax.clip.load import Backbone, load_clip
from fsclip_jax.data.templates import BARE, prompts
from fsclip_jax.durable import only_writer, write_json
from fsclip_jax.errors import UserError
from fsclip_jax.features.text import class_text_features
from fsclip_jax.fitting.checkpoints import FeatureSpec
from fsclip_jax.fitting.methods import Method, choose_methods, not_given_by
from fsclip_jax.segmentation.annotated import Annotated, draw_shots, read_split
from fsclip_jax.segmentation.background import best_threshold, fit_line
from fsclip_jax.segmentation.compare import SegmentationSetting, compare
from fsclip_jax.segmentation.prepare import Points, cut_parts, encode_points, object_features

_PHOTO = ("a photo of a {}.",)

Say = Callable[[str], None]


def prepare_scenes(
    backbone: Backbone, scenes: Path, windows: Sequence[int], segments: bool, say: Say
) -> tuple[SegmentationSetting, Annotated, dict[str, Any]]:
    """Encode the scenes and find the rule that tells things from background.

    Args:
        backbone: a loaded CLIP.
        scenes: made by ``fsclip scenes``.
        windows: sides of the windows, in pixels of the pictures.
        segments: cut pictures along edges; otherwise into squares of 4 x 4 pixels.
        say: is told what is being done.

    Returns:
        What methods are compared on, the labelled objects, and a record of the rule.
    """
    splits = {name: read_split(scenes, name) for name in ("train", "val", "test", "support")}
    points: dict[str, tuple[Points, ...]] = {}
    for name, split in splits.items():
        say(f"encoding {len(split.images)} pictures of {name}")
        points[name] = tuple(encode_points(backbone, split, window) for window in windows)
    lines = [fit_line(one.features, one.labels > 0) for one in points["train"]]

    def thing_scores(name: str) -> tuple[Any, np.ndarray]:
        say(f"cutting {name} into parts")
        parts = cut_parts(splits[name], points[name], segments)
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
    text, _, _ = class_text_features(backbone, [prompts(name, template) for name in classes.names])
    found = [object_features(splits["support"], one) for one in points["support"]]
    ready = SegmentationSetting(
        text=text,
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
    return ready, splits["support"], rule


def gather_methods(
    names: Sequence[str], checkpoints: Sequence[Path], backbone: Backbone
) -> tuple[Method, ...]:
    """Find the methods by name, as ``choose_methods`` does; zero-shot first.

    Raises:
        UserError: a method is unknown, or needs what patches do not give.
    """
    features = FeatureSpec(backbone.embed_dim, {"id": backbone.id, "sha256": backbone.sha256})
    missing = not_given_by("a scene does not give")
    chosen = choose_methods(names, features, checkpoints, missing=missing).methods
    return tuple(sorted(chosen, key=lambda method: method.name != "zero_shot"))


def segment_scenes(
    scenes: Path,
    out: Path,
    *,
    methods: Sequence[str],
    shots: Sequence[int],
    seeds: int,
    backbone: str = "mini",
    checkpoints: Sequence[Path] = (),
    windows: Sequence[int] = (),
    segments: bool = True,
    say: Say = lambda _: None,
) -> dict[str, Any]:
    """Compare methods on a folder of scenes and write ``segmentation.json``.

    Args:
        scenes: made by ``fsclip scenes``.
        out: folder for the result.
        methods: names of methods.
        shots: numbers of labelled objects of a class.
        seeds: draws of the support.
        backbone: a CLIP.
        checkpoints: workdirs of training, for meta-learned methods.
        windows: sides of the windows, in pixels of the pictures; see ``default_windows``.
        segments: give a whole segment one class; otherwise every 4 x 4 pixels.
        say: is told what is being done.

    Returns:
        What the file holds.

    Raises:
        UserError: the input is wrong, or the result cannot be written.
    """
    if not shots or min(shots) < 1 or seeds < 1:
        raise UserError(f"--shots {list(shots)} --seeds {seeds}: give 1 or more of each")
    if any(window < 8 for window in windows):
        raise UserError(f"--windows {list(windows)}: give 8 pixels or more")
    read_split(scenes, "test")  # before anything is loaded
    clip = load_clip(backbone)
    chosen = gather_methods(methods, checkpoints, clip)
    labelled = read_split(scenes, "support")
    draws = {
        count: np.stack(
            [
                draw_shots(labelled.objects, labelled.classes.ids, count, seed)
                for seed in range(seeds)
            ]
        )
        for count in shots
    }
    with only_writer(out, ".segment.lock", "is segmenting", "--out"):
        windows = tuple(windows) or default_windows(clip)
        ready, support, rule = prepare_scenes(clip, scenes, windows, segments, say)
        records = compare(ready, chosen, draws, lambda name, n, _: say(f"{name}, {n} shots"))
        whole = {
            "schema": 1,
            "scenes": str(scenes),
            "backbone": {"id": clip.id, "sha256": clip.sha256},
            "windows": list(windows),
            "segments": segments,
            "background": rule,
            "classes": [
                {"name": name, "novel": novel}
                for name, novel in zip(support.classes.names, support.classes.novel, strict=True)
            ],
            "methods": {method.name: dict(method.origin) for method in chosen},
            "results": records,
        }
        write_json(out / "segmentation.json", whole)
    return whole


def default_windows(backbone: Backbone) -> tuple[int, ...]:
    """Return the sides of windows to use unless given.

    A tower with patches sees windows of its own size and twice that. One without, as the bundled
    CLIP's, sees windows of 64 pixels: of 48, 64, 96 and their combinations the best on val scenes.
    """
    size = backbone.image_size
    return (64,) if backbone.config.vision.grid == 1 else (size, 2 * size)


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Lay results out as text, ratios in percent.

    Args:
        results: records of ``segmentation.json``.

    Returns:
        Lines.
    """
    head = ("method", "shots", "novel", "over zero-shot", "base", "background")
    rows = [head]
    for one in results:
        change = one.get("novel_over_zero_shot")
        rows.append(
            (
                one["method"],
                str(one["shots"]),
                _percent(one["novel"]),
                _percent(change, sign=True) if change else "",
                _percent(one["base"]),
                _percent(one["background"]),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _percent(value: Mapping[str, Any], sign: bool = False) -> str:
    mean = f"{100 * value['mean']:{'+' if sign else ''}.2f}"
    return mean if not value["ci95"] else f"{mean} ± {100 * value['ci95']:.2f}"
