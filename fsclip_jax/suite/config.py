"""What a suite compares; light, so that ``--help`` answers at once."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class SuiteConfig:
    """Compare methods on data sets x backbones x shots x seeds, one cell after another."""

    data: tuple[str, ...] = ("emoji",)
    """Data sets, as `fsclip eval --data` takes them. `{root}` in them stands for `--root`."""
    backbones: tuple[str, ...] = ("mini",)
    """CLIPs, as `fsclip eval --backbone` takes them. Give one if all data sets are `bank:`."""
    methods: tuple[str, ...] = ("all",)
    """Methods by name; `all` leaves out what does not apply to a data set."""
    shots: tuple[int | str, ...] = (1, 2, 4, 8, 16)
    """As in `fsclip eval`."""
    seeds: int = 3
    """Support draws of every cell."""
    root: Path = Path("data")
    """Folder of the data sets that `{root}` stands for."""
    protocol: Literal["full_way", "cross_category"] = "full_way"
    """As in `fsclip eval`."""
    label_space: Literal["restricted", "generalised"] = "restricted"
    """As in `fsclip eval`."""
    class_split: Literal["halves", "easy_hard"] = "halves"
    """As in `fsclip eval`."""
    select: Literal["val", "shots", "none"] = "val"
    """As in `fsclip eval`."""
    checkpoint: tuple[str, ...] = ()
    """Workdirs of `fsclip train`, one per meta-learned method. `{data}` and `{backbone}` in them
    stand for names of columns and backbones."""
    views: int = 4
    """As in `fsclip eval`."""
    prompts: bool = False
    """As in `fsclip eval`."""
    templates: Literal["single", "ensemble"] = "single"
    """As in `fsclip eval`."""
    predictions: bool = True
    """As in `fsclip eval`: keep the answers of every cell."""
    out: Path | None = None
    """Folder of the suite; `runs/CONFIG_NAME` if not given, named after the data without one. A
    suite that was stopped continues there."""
    coordinator: str | None = None
    """Several hosts: HOST:PORT of process 0, or auto, to ask the environment (Slurm, Open MPI,
    Kubernetes, TPU pods)."""
    processes: int | None = None
    """Several hosts: how many processes share the cells; process 0 alone writes."""
    process: int | None = None
    """Several hosts: which one this is, from 0."""
