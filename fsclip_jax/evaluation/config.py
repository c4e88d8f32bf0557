"""What one evaluation compares, and how; light, so that ``--help`` answers at once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from fsclip_jax.errors import UserError
from fsclip_jax.report.shots import Shots, mean_shots


@dataclass(frozen=True)
class EvalConfig:
    """Compare few-shot methods on the same features, the same shots and the same queries."""

    data: str = "emoji"
    """`emoji[:TOPIC]`, `folder:DIR`, `coop:NAME@ROOT`, `tfds:NAME[/CONFIG]`, `hf:NAME` or
    `bank:DIR`. `fsclip datasets` lists published ones."""
    backbone: str = "mini"
    """CLIP that encodes the images: `mini`, a Hugging Face id (`ID@REVISION` pins it), a local
    folder or a weights file. Not with `bank:`."""
    methods: tuple[str, ...] = ("all",)
    """Methods by name; `all` for all that apply to the data, but for coop, cocoop and clip_lora,
    which take long: name them beside it."""
    shots: tuple[int | str, ...] = (1, 2, 4, 8, 16)
    """Labelled images per class; `imbalanced:MEAN` for so many on average, at least 1."""
    draws: Path | None = None
    """Folder of few-shot lists that others share, to take shots and val images from in place of
    draws: `split_fewshot/shot_K-seed_S_train.jsonl` (2SFS) or `shot_K-seed_S.pkl` (CoOp). The
    first `seeds` seeds of each number of shots."""
    write_draws: Path | None = None
    """Folder to write the shots of this evaluation to, as such lists."""
    seeds: int = 3
    """Support draws, the same for every method. Not for `episodic`."""
    protocol: Literal[
        "full_way", "cross_category", "cross_dataset", "domain_shift", "episodic", "transductive"
    ] = "full_way"
    """`full_way`: all classes at once. `cross_category`: base and novel classes. `cross_dataset`:
    on `targets`, with the adapters and settings of `data`. `domain_shift`: images of `targets` by
    shots of `data`. `episodic`: many tasks of `way` classes. `transductive`: as `full_way`, with
    answers refined by the other queries of a `batch`."""
    targets: tuple[str, ...] = ()
    """For `cross_dataset` and `domain_shift`: data sets to evaluate on. `domain_shift` without any:
    the artist families of the test images."""
    label_space: Literal["restricted", "generalised"] = "restricted"
    """For `cross_category`: a query is classified among the classes of its half, or among all."""
    class_split: Literal["halves", "easy_hard"] = "halves"
    """`halves`: the first half of the classes is base. `easy_hard`: the 70 % that zero-shot
    classifies best, measured on train images."""
    classes: Literal["all", "base", "novel"] = "all"
    """For `full_way` and `episodic`: all classes, or one half of them."""
    select: Literal["val", "shots", "none"] = "val"
    """Where searched scalars are chosen. `val`: on val images (as `shots` where there are none).
    `shots`: by cross-validation within the support. `none`: one fixed setting for all data."""
    as_published: tuple[Literal["meta_adapter", "tip_adapter_f"], ...] = ()
    """Rows that copy what the published code of these methods does and honesty forbids; for
    comparison with published numbers only. `meta_adapter` goes with `cross_category`."""
    query_split: Literal["test", "val"] = "test"
    """Images that are judged. `val` goes with `--select shots` or `none`."""
    checkpoint: tuple[Path, ...] = ()
    """Workdirs of `fsclip train`, or `OWNER/NAME` of the Hugging Face hub, one per method; else
    `workdir` and its subfolders named after a method are looked into."""
    workdir: Path | None = None
    """Folder of this experiment; `runs/CONFIG_NAME` if not given, named after the data
    where there is no CONFIG.py."""
    out: Path | None = None
    """Folder of the report; `workdir` if not given."""
    look: str = ""
    """Method that the page looks at closely: its classes, confusions and mistakes. The most
    accurate one if not given. Needs the predictions."""
    predictions: bool = True
    """Keep every answer, in `predictions.safetensors`. Not of `episodic`, `transductive`."""
    way: int = 5
    """For `episodic`: classes of a task."""
    query: int = 15
    """For `episodic`: query images per class of a task, at most."""
    episodes: int = 600
    """For `episodic`: number of tasks."""
    batch: str = "all"
    """For `transductive`, queries that are seen together. `all`: every one. `few:K` or `few:A-B`:
    of so many classes. `stream:GAMMA`: classes come together, by a Dirichlet distribution of that
    concentration; `stream:separate`: one after the other."""
    batch_size: int = 64
    """For `transductive`: queries of a batch, but for `all`."""
    batches: int = 100
    """For `transductive`: batches of every draw, for `few`."""
    refine: tuple[Literal["transclip", "stata", "tda"], ...] = ("transclip", "stata", "tda")
    """For `transductive`: what refines the answers of every method, a row each."""
    views: int = 4
    """Views of each image: the centre crop and `views - 1` augmented ones. A support feature is
    their mean, a query the centre crop."""
    features: Literal["post", "pre"] = "post"
    """`pre` extracts the features before the tower's last projection, for prolip; the others see
    those after it all the same. Not with `bank:`."""
    probe: Literal["after", "before"] = "after"
    """Side of the last projection that methods see. `before`: of a bank of `--features pre`;
    methods that need no text."""
    prompts: bool = False
    """Extract the vector of every prompt too. Not with `bank:`."""
    templates: Literal["single", "ensemble"] = "single"
    """Prompts: the data set's own template, or that and seven others. Not with `bank:`."""
    prompt_file: Path | None = None
    """JSON of class -> list of sentences, in place of the templates. Not with `bank:`."""
    coordinator: str | None = None
    """Several hosts: HOST:PORT of process 0, or auto, to ask the environment (Slurm, Open MPI,
    Kubernetes, TPU pods)."""
    processes: int | None = None
    """Several hosts: how many processes share the methods and shots; process 0 alone writes."""
    process: int | None = None
    """Several hosts: which one this is, from 0."""


KEEP_NONE = ("episodic", "transductive")
"""Protocols of which no predictions are kept: their queries differ from draw to draw."""


def check_eval_config(config: EvalConfig) -> None:
    """Refuse what makes no sense, before anything heavy happens.

    Raises:
        UserError: naming the flag.
    """
    for name in ("seeds", "way", "query", "episodes", "views", "batch_size", "batches"):
        if getattr(config, name) < 1:
            raise UserError(f"{name} is {getattr(config, name)}; give at least 1")
    check_shots_given(config.shots)
    _check_draws(config)
    if config.protocol == "episodic" and config.way < 2:
        raise UserError(f"way is {config.way}; an episode needs two classes or more")
    _check_targets(config)
    _check_batch(config)
    if (config.probe, config.features) == ("before", "post") and config.data[:5] != "bank:":
        raise UserError("--probe before wants what is before the projection: give --features pre")
    if config.look and (config.protocol in KEEP_NONE or not config.predictions):
        what = "--no-predictions" if not config.predictions else f"{config.protocol} keeps none"
        raise UserError(
            f"--look {config.look} needs the predictions, and there are none ({what}): leave "
            "one of the two out"
        )
    if config.class_split != "halves" and "meta_adapter" in config.as_published:
        raise UserError(
            "--as-published meta_adapter tests the second half of the classes: leave "
            "--class-split out"
        )
    if config.as_published and config.protocol == "episodic":
        raise UserError("the published code has no episodes: leave --as-published out of episodic")
    if "meta_adapter" in config.as_published and config.protocol != "cross_category":
        raise UserError(
            f"--as-published meta_adapter tests novel classes, but the protocol is "
            f"{config.protocol}: give --protocol cross_category"
        )
    if "tip_adapter_f" in config.as_published and config.label_space == "generalised":
        raise UserError(
            "--as-published tip_adapter_f chooses on the test images of one group of classes: give "
            "--label-space restricted"
        )
    if config.as_published and config.query_split == "val":
        raise UserError(
            "--as-published copies what is done on test images: leave --query-split out"
        )
    if config.query_split == "val" and config.select == "val":
        raise UserError(
            "select val would choose settings on the val images that the accuracy is measured on; "
            "give --select shots or none with --query-split val"
        )


def check_shots_given(shots: Sequence[Shots]) -> None:
    """Refuse what is no number of shots.

    Raises:
        UserError: naming the flag.
    """
    try:
        least = min(map(mean_shots, shots), default=0)
    except ValueError:
        least = 0
    if not least:
        raise UserError(
            f"shots are {list(shots)}; give one number or more, each at least 1 or imbalanced:MEAN"
        )


def _check_draws(config: EvalConfig) -> None:
    """Refuse lists of shots, and imbalanced ones, where shots are drawn in another way."""
    uneven = any(isinstance(each, str) for each in config.shots)
    listed = {"draws": config.draws, "write_draws": config.write_draws}
    flags = [f"--{name.replace('_', '-')}" for name, given in listed.items() if given]
    flags += ["--shots imbalanced"] if uneven else []
    if flags and (config.protocol == "episodic" or config.as_published):
        other = "episodic" if config.protocol == "episodic" else "--as-published"
        raise UserError(f"{flags[0]} does not go with {other}: leave one of the two out")
    if (config.draws or config.write_draws) and config.protocol in (
        "cross_dataset",
        "domain_shift",
    ):
        raise UserError(f"{flags[0]} goes with full_way and cross_category: leave it out")


def _check_targets(config: EvalConfig) -> None:
    """Refuse targets that do not go with the protocol."""
    transfer = config.protocol in ("cross_dataset", "domain_shift")
    if config.targets and not transfer:
        raise UserError(
            f"targets go with cross_dataset and domain_shift, not with {config.protocol}: give "
            "--protocol cross_dataset or leave --targets out"
        )
    if config.protocol == "cross_dataset" and not config.targets:
        raise UserError("cross_dataset wants data sets to evaluate on: give --targets")
    if config.protocol == "cross_dataset" and config.classes != "all":
        raise UserError(
            f"classes {config.classes} goes with full_way, episodic and domain_shift: leave "
            "--classes out"
        )
    if len({config.data, *config.targets}) != 1 + len(config.targets):
        raise UserError("a target is given twice, or is the source: give each once")
    if transfer and config.as_published:
        raise UserError(f"--as-published does not go with {config.protocol}: leave it out")


class Batching(NamedTuple):
    """What ``batch`` means: ``kind`` is ``all``, ``few``, ``stream`` or ``separate``.

    Attributes:
        low: least number of classes of a batch; ``high`` the most.
        gamma: concentration of the Dirichlet distribution.
    """

    kind: str
    low: int = 0
    high: int = 0
    gamma: float = 0.0


def read_batch(text: str) -> Batching:
    """Read what ``batch`` says.

    Raises:
        UserError: it is not one of the three forms.

    Example:
        >>> read_batch("few:2-10").high, read_batch("stream:0.1").gamma
        (10, 0.1)
    """
    kind, _, rest = text.partition(":")
    few = re.fullmatch(r"([0-9]{1,6})(?:-([0-9]{1,6}))?", rest, re.ASCII)
    if text in ("all", "stream:separate"):
        return Batching(rest or "all")
    if kind == "few" and few:
        low, high = int(few[1]), int(few[2] or few[1])
        if 1 <= low <= high:
            return Batching("few", low, high)
    number = re.fullmatch(r"[0-9]*\.?[0-9]+(e-?[0-9]+)?", rest, re.ASCII)
    if kind == "stream" and number and 1e-4 <= float(rest) <= 1e4:
        return Batching("stream", gamma=float(rest))
    raise UserError(
        f"batch is {text!r}; give all, few:K or few:A-B (classes of a batch), or stream:GAMMA "
        "(0.0001 to 10000) or stream:separate"
    )


def _check_batch(config: EvalConfig) -> None:
    """Refuse what only the transductive protocol has, and what it has not."""
    if config.protocol != "transductive":
        for name in ("batch", "batch_size", "batches", "refine"):
            if getattr(config, name) != getattr(EvalConfig, name):
                raise UserError(
                    f"--{name.replace('_', '-')} goes with the protocol transductive, not with "
                    f"{config.protocol}: its rows saw the queries, and stand in no other table"
                )
        return
    read_batch(config.batch)
    if not config.refine or len(set(config.refine)) != len(config.refine):
        raise UserError("refine names nothing, or one twice; give transclip, stata or tda")
    if config.as_published:
        raise UserError("--as-published does not go with transductive: leave it out")
