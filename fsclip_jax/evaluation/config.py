"""What one evaluation compares, and how; light, so that ``--help`` answers at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class EvalConfig:
    """Compare few-shot methods on the same features, the same shots and the same queries."""

    data: str = "emoji"
    """Images or a feature bank: `emoji` (bundled), `emoji:food` and other topics of it,
    `folder:DIR` (one folder per class),
    `coop:NAME@ROOT`, `tfds:NAME[/CONFIG]`, `hf:NAME` or `bank:DIR`. `fsclip datasets` lists the
    published data sets."""
    backbone: str = "mini"
    """CLIP that encodes the images: `mini` (bundled), a Hugging Face id (`ID@REVISION` pins it), a
    local folder or a weights file. Not used with `bank:`, whose features are there already."""
    methods: tuple[str, ...] = ("all",)
    """Methods to compare, by name; `all` for every method that applies to the data, but for coop
    and cocoop, which train through the text tower and take long: name them beside `all`."""
    shots: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Labelled images per class."""
    seeds: int = 3
    """Support draws, of which the mean and the interval are reported; every method sees the same
    draws. Not used by `episodic`, whose interval is over its episodes."""
    protocol: Literal["full_way", "cross_category", "cross_dataset", "domain_shift", "episodic"] = (
        "full_way"
    )
    """`full_way`: all classes at once. `cross_category`: base and novel classes, and their
    harmonic mean. `cross_dataset`: on `targets`, with the adapters and settings of `data`.
    `domain_shift`: images of `targets` by shots of `data`. `episodic`: many small tasks of `way`
    classes."""
    targets: tuple[str, ...] = ()
    """For `cross_dataset` and `domain_shift`: data sets to evaluate on, as for `data`, which is
    the source then. `domain_shift` without any: the artist families of the test images."""
    label_space: Literal["restricted", "generalised"] = "restricted"
    """For `cross_category`: a query of one half is classified among the classes of its half, or
    among all classes."""
    class_split: Literal["halves", "easy_hard"] = "halves"
    """What base and novel classes are. `halves`: the first half of the classes is base.
    `easy_hard`: the 70 % that zero-shot classifies best are base; measured on the train images,
    so no test image has a part in it."""
    classes: Literal["all", "base", "novel"] = "all"
    """For `full_way` and `episodic`: all classes, or one half of them."""
    select: Literal["val", "shots", "none"] = "val"
    """`val`: searched scalars are chosen on the val images (or, where the data has none, as
    `shots`). `shots`: by cross-validation within the support, no other labelled image is used.
    `none`: one fixed setting, the same for all data."""
    as_published: tuple[Literal["meta_adapter", "tip_adapter_f"], ...] = ()
    """Rows beside the others that copy what the published code of these methods does and honesty
    forbids, such as choosing on the test images; for comparison with published numbers only.
    `meta_adapter` goes with `cross_category`."""
    query_split: Literal["test", "val"] = "test"
    """Images that the accuracy is measured on. `val` goes with `select
    shots` or `none` only."""
    checkpoint: tuple[Path, ...] = ()
    """Workdirs of `fsclip train` that hold a trained adapter, one per method. If not given, they
    are looked for in `workdir` and in its subfolders named after a method."""
    workdir: Path | None = None
    """Folder of this experiment; `runs/CONFIG_NAME` if not given."""
    out: Path | None = None
    """Folder of the report; `workdir` if not given."""
    predictions: bool = True
    """Keep what every method answered to every image, in `predictions.safetensors` beside the
    report. Not of `episodic`."""
    way: int = 5
    """For `episodic`: classes of a task."""
    query: int = 15
    """For `episodic`: query images per class of a task, at most."""
    episodes: int = 600
    """For `episodic`: number of tasks."""
    views: int = 4
    """Views per image in the bank: the centre crop and `views - 1` augmented ones. A support
    feature is the mean over all views; a query is always the centre crop."""
    prompts: bool = False
    """Extract the vector of every prompt too, for methods that weigh prompts. Not used with
    `bank:`, which holds them or does not."""
    templates: Literal["single", "ensemble"] = "single"
    """Prompts: the data set's own template, or the ensemble: seven, and that one beside them but
    on ImageNet. Not with `bank:`, whose text features are made."""
    prompt_file: Path | None = None
    """JSON of class -> list of sentences, in place of the templates. Not with `bank:`."""
