"""From a configuration to a report."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fsclip_jax.adapters.base import needs_of
from fsclip_jax.adapters.catalog import ADAPTERS, get_adapter
from fsclip_jax.devices import device_name
from fsclip_jax.durable import storage_errors
from fsclip_jax.errors import UserError, suggestion
from fsclip_jax.evaluation.as_published import NOTES, SUFFIX, published_methods
from fsclip_jax.evaluation.config import EvalConfig, check_eval_config
from fsclip_jax.evaluation.details import details_of
from fsclip_jax.evaluation.label_spaces import class_halves, label_spaces
from fsclip_jax.evaluation.listed import files_of, write_draws
from fsclip_jax.evaluation.naming import data_title
from fsclip_jax.evaluation.pictures import Inputs, find_pictures
from fsclip_jax.evaluation.predictions import StoredPredictions
from fsclip_jax.evaluation.predictions_file import PREDICTIONS_FILE, store_predictions
from fsclip_jax.evaluation.prepare import largest_train_class, supports_of
from fsclip_jax.evaluation.progress import SILENT, Watch
from fsclip_jax.evaluation.protocols import run_protocol
from fsclip_jax.evaluation.provenance import training_warnings
from fsclip_jax.evaluation.targets import Target, targets_of, unmatched_classes
from fsclip_jax.evaluation.transductive import SAW_QUERIES, run_transductive
from fsclip_jax.evaluation.transfer import run_transfer
from fsclip_jax.evaluation.words import find_words
from fsclip_jax.features.bank import StoredBank
from fsclip_jax.fitting.checkpoints import Checkpoint, FeatureSpec, describe_checkpoint
from fsclip_jax.fitting.engine import Engine
from fsclip_jax.fitting.inputs import BY_NAME, LEARNS_PROMPTS, PROJECTION, TOWERS, text_missing
from fsclip_jax.fitting.methods import Chosen, choose_methods, lengths_missing
from fsclip_jax.hosts import ALONE, Hosts
from fsclip_jax.report.measured import circumstances
from fsclip_jax.report.rows import Report
from fsclip_jax.report.shots import Shots, in_order
from fsclip_jax.report.write import write_report

TRANSFERS = ("cross_dataset", "domain_shift")
"""Protocols with a source and targets."""


_OTHER_CLASSES = {
    "episodic": "episodes differ",
    **dict.fromkeys(TRANSFERS, "targets have others"),
}
_BELONGS = {
    LEARNS_PROMPTS: "learned prompts belong to one set of classes",
    TOWERS: "trained towers belong to one set of classes",
}


class Evaluation(NamedTuple):
    """A report, and the predictions behind its numbers if they are kept."""

    report: Report
    predictions: StoredPredictions | None


def evaluate_bank(
    config: EvalConfig,
    stored: StoredBank,
    workdir: Path,
    watch: Watch = SILENT,
    command: str = "",
    engine: Engine | None = None,
    targets: Sequence[StoredBank] = (),
    hosts: Hosts = ALONE,
) -> Evaluation:
    """Compare methods on an opened bank.

    Args:
        workdir: where to look for a checkpoint if the configuration names none.
        engine: keeps what was compiled, for several evaluations of one bank.
        hosts: who share the work, all with the same arguments; all get the whole report.

    Raises:
        UserError: the settings, the data and the checkpoint do not go together.
    """
    check_eval_config(config)
    if config.probe != "after":
        stored = stored.on(config.probe)
    inputs = find_inputs(config, stored, targets)
    missing = inputs.missing
    features = FeatureSpec(stored.dim, stored.manifest["backbone"])
    chosen = choose_methods(
        config.methods, features, config.checkpoint, workdir=workdir, missing=missing
    )
    if config.as_published and "text" in missing:
        raise UserError(f"--as-published: {missing['text']}; leave it out")
    methods = (*chosen.methods, *published_methods(config.as_published, stored.dim))
    _check_look(config.look, [method.name for method in methods])
    named = targets_of(config, stored, targets) if config.protocol in TRANSFERS else ()
    if config.protocol == "transductive":
        outcome = run_transductive(config, stored, methods, watch, inputs, engine, hosts)
    elif named:
        outcome = run_transfer(config, stored, named, methods, watch, engine, hosts)
    else:
        outcome = run_protocol(config, stored, methods, watch, inputs, engine, hosts)
    rows, facts, predictions = outcome
    backbone, data = stored.manifest["backbone"], stored.manifest["data"]
    report = Report(
        **circumstances(),
        command=command,
        device=device_name(),
        protocol=config.protocol,
        label_space=config.label_space,
        backbone={"id": backbone.get("id"), "sha256": backbone.get("sha256")},
        data={
            "spec": config.data,
            "title": data_title(config.data, str(data.get("spec"))),
            "source": data.get("spec"),
            "version": data.get("version"),
            "n_classes": len(stored.class_names),
            **facts,
        },
        rows=rows,
        settings=_settings(config, stored, chosen),
        checkpoints=tuple(map(describe_checkpoint, chosen.checkpoints)),
        warning=(
            *(f"{name}{SUFFIX}: {NOTES[name]}" for name in config.as_published),
            *_training_warnings(config, chosen.checkpoints, stored, named),
            *_class_warnings(config, stored, named),
            *text_missing(stored, *targets).values(),
            *lengths_missing(methods, stored, *targets),
            *_warnings(config, stored, None if chosen.checkpoints else workdir),
        ),
        details=details_of(predictions, [stored, *targets], methods, config.look),
    )
    return Evaluation(report, predictions)


def write_evaluation(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Write the predictions and the report.

    The report comes last and names the sum of the predictions: a folder with a report of this
    run is whole, and predictions of another run beside it are told by their sum.

    Raises:
        UserError: the disk is full or the folder cannot be written to.
    """
    files = write_report(keep_predictions(evaluation, folder), folder)
    return [*files, *([folder / PREDICTIONS_FILE] if evaluation.predictions else [])]


def write_supports(config: EvalConfig, stored: StoredBank, folder: Path) -> None:
    """Write the shots of an evaluation as lists that others can read.

    Raises:
        UserError: the data does not have the shots, or the folder cannot be written to.
    """
    found: dict[Shots, list[np.ndarray]] = {}
    numbers = in_order(config.shots)
    for space in label_spaces(config, len(stored.class_names), class_halves(config, stored)):
        supports = supports_of(config, stored, space)
        for shots in numbers:
            found.setdefault(shots, []).append(supports.rows(stored, shots))
    write_draws(stored, folder, found)


def keep_predictions(evaluation: Evaluation, folder: Path) -> Report:
    """Write the predictions, or remove those of an earlier run; the report then names their sum.

    Raises:
        UserError: the disk is full or the folder cannot be written to.
    """
    report, predictions = evaluation
    if predictions is None:
        with storage_errors(folder):
            (folder / PREDICTIONS_FILE).unlink(missing_ok=True)
        return report
    sha256 = store_predictions(predictions, folder)
    settings = {**report.settings, "predictions_sha256": sha256}
    return dataclasses.replace(report, settings=settings)


def _check_look(look: str, names: Sequence[str]) -> None:
    """Refuse to look closely at a method that takes no part."""
    if look and look not in names:
        raise UserError(
            f"--look {look}: it takes no part; these do: {', '.join(names)}"
            + suggestion(look, names)
        )


def _class_warnings(config: EvalConfig, stored: StoredBank, targets: Sequence[Target]) -> list[str]:
    """Say which targets have classes that the source has not."""
    return [
        f"{name}: {count} of its classes are not among those of {config.data} and are left out"
        for name, count in unmatched_classes(config, stored, targets).items()
    ]


def _training_warnings(
    config: EvalConfig,
    checkpoints: Sequence[Checkpoint],
    stored: StoredBank,
    targets: Sequence[Target],
) -> list[str]:
    """Say where trained adapters have seen what they are evaluated on."""
    if config.protocol in TRANSFERS:
        return [
            f"{target.name}: {line}"
            for checkpoint in checkpoints
            for target in (targets if config.targets else ())
            for line in training_warnings(checkpoint, target.stored, ["test"], config.query_split)
        ]
    spaces = label_spaces(config, len(stored.class_names))
    groups = [group.name for space in spaces for group in space.groups]
    base = "easy" if config.class_split == "easy_hard" else "base"
    return [
        line
        for checkpoint in checkpoints
        for line in training_warnings(checkpoint, stored, groups, config.query_split, base)
    ]


def find_inputs(
    config: EvalConfig, stored: StoredBank, targets: Sequence[StoredBank] = ()
) -> Inputs:
    """Find words and pictures, and for every input that is not at hand the reason.

    The towers are loaded only if a method that needs them was asked for by name.
    """
    missing = text_missing(stored, *targets)
    if any(bank.prompt_features is None for bank in (stored, *targets)):
        missing["prompts"] = "the bank does not hold every prompt's own vector (extract --prompts)"
    if not stored.pre:
        missing[PROJECTION] = (
            "the bank does not hold features before the last projection (extract --features pre)"
        )
    elif config.protocol in TRANSFERS:
        missing[PROJECTION] = f"{config.protocol} does not train the tower's projection"
    named = [name for name in config.methods if name in ADAPTERS]
    needed = {need for name in named for need in needs_of(get_adapter(name))} & set(BY_NAME)
    if not needed:
        return Inputs(missing)
    if other := _OTHER_CLASSES.get(config.protocol):
        return Inputs(missing | {name: f"{_BELONGS[name]}, and {other}" for name in needed})
    words, pictures = None, None
    if LEARNS_PROMPTS in needed:
        words, why = find_words(config, stored)
        missing |= {LEARNS_PROMPTS: why} if why else {}
    if TOWERS in needed and "text" not in missing:
        pictures, why = find_pictures(config, stored)
        missing |= {TOWERS: why} if why else {}
    return Inputs(missing, words, pictures)


def _settings(config: EvalConfig, stored: StoredBank, chosen: Chosen) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "select": config.select,
        "query_split": config.query_split,
        "shots": list(in_order(config.shots)),
        "views": stored.views,
    }
    if config.class_split != "halves":
        settings["class_split"] = config.class_split
    if chosen.left_out:
        settings["left_out"] = list(chosen.left_out.values())
    if config.protocol == "transductive":
        refined = {"batch": config.batch, "refine": list(config.refine)}
        sizes = {} if config.batch == "all" else {"batch_size": config.batch_size}
        settings |= refined | sizes
    if config.protocol == "episodic":
        episode = {"way": config.way, "query": config.query, "episodes": config.episodes}
        return settings | {"classes": config.classes} | episode
    if config.draws is not None:
        settings["draws"] = files_of(config.draws, in_order(config.shots), config.seeds)
    return settings | {"seeds": config.seeds}


def _warnings(config: EvalConfig, stored: StoredBank, untrained: Path | None) -> list[str]:
    """What makes the numbers mean less than they seem to."""
    lines = []
    if untrained is not None and (untrained / "config.json").is_file():
        lines.append(f"the training run in {untrained} is not finished: no trained adapter yet")
    if config.protocol == "episodic":
        return lines
    if config.protocol == "transductive":
        lines.append(SAW_QUERIES)
    if config.seeds < 3:
        lines.append(f"{config.seeds} support draws: an interval wants 3 or more")
    largest = largest_train_class(stored)
    even = [shots for shots in in_order(config.shots) if isinstance(shots, int)]
    whole = [str(shots) for shots in even if shots >= largest]
    if whole and config.draws is None:
        lines.append(
            f"no class has more than {largest} train images: at {', '.join(whole)} shots there is "
            "a single draw, of all of them, and no interval"
        )
    return lines
