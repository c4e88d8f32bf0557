"""``fsclip extract``: images to a feature bank."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from fsclip_jax.cli.listing import bank_line
from fsclip_jax.cli.parsing import parse
from fsclip_jax.errors import UserError, say, tell


@dataclass(frozen=True)
class ExtractConfig:
    """Encode images once, into a feature bank."""

    data: str
    """The images: `emoji[:TOPIC]`, `folder:DIR`, `coop:NAME@ROOT`, `hf:NAME` or
    `tfds:NAME[/CONFIG][@SPLIT.json]`; `fsclip datasets` lists published ones."""
    out: Path
    """Folder to make. An extraction that was interrupted is continued."""
    backbone: str = "mini"
    """CLIP: mini, a Hugging Face id, a local folder or a weights file."""
    views: int = 1
    """Views of each image: the centre crop, the rest augmented (random crop, flip)."""
    batch: int = 256
    """Views that go through the image tower together."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type in which the features are stored."""
    shard: int = 1024
    """Images a file: what is lost at most when the program is killed."""
    seed: int = 0
    """Seed of the augmented views."""
    prompts: bool = False
    """Store the vector of every prompt too, not only the class means."""
    templates: Literal["single", "ensemble"] = "single"
    """Prompts: the data set's own template, or seven and that one (not on ImageNet). The mini CLIP
    is asked bare names whatever this says."""
    prompt_file: Path | None = None
    """JSON of class -> list of sentences, in place of the templates, for mini too."""
    patches: bool = False
    """Store the features of every patch of view 0 too, for attn_adapter. P times as large."""
    features: Literal["post", "pre"] = "post"
    """pre stores the features before the last projection, and the projection with them: prolip
    trains it, and methods see either side. Not with `--patches`."""
    workers: int | None = None
    """Processes that decode; 0 decodes in threads. None: a process a core from 4 cores and 20,000
    images, else threads."""
    decode: Literal["exact", "draft"] = "exact"
    """draft decodes large JPEGs at a half, a quarter or an eighth: quicker, but other pixels, so
    another bank."""
    compute: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the image tower computes in; auto is float32 on a CPU, bfloat16 elsewhere."""
    coordinator: str | None = None
    """Several hosts: HOST:PORT of process 0, or auto, to ask the environment (Slurm, Open MPI,
    Kubernetes, TPU pods)."""
    processes: int | None = None
    """Several hosts: how many processes there are; all share --out."""
    process: int | None = None
    """Several hosts: which one this is, from 0."""


def main(argv: Sequence[str]) -> int:
    """Extract a bank and say what it holds."""
    config = parse(ExtractConfig, argv, prog="fsclip extract")
    if config.data.partition(":")[0] == "bank":
        raise UserError(
            f"{config.data} is a bank already; --data takes images: emoji[:TOPIC], folder:DIR, "
            "coop:NAME@ROOT, tfds:NAME[/CONFIG] or hf:NAME"
        )
    from fsclip_jax.clip.load import load_clip
    from fsclip_jax.data.registry import open_source
    from fsclip_jax.devices import accelerator_mesh
    from fsclip_jax.features.extract import ExtractSettings, extract, prompts_of
    from fsclip_jax.features.layout import partial_name
    from fsclip_jax.hosts import join_hosts

    hosts = join_hosts(config.coordinator, config.processes, config.process)
    source, clip = open_source(config.data), load_clip(config.backbone)
    same = {field.name: getattr(config, field.name) for field in fields(ExtractSettings)}
    settings = ExtractSettings(**same)
    prompts = prompts_of(source, clip, settings)
    tell((*source.notes, *prompts.notes))
    try:
        bank = extract(source, clip, config.out, settings, accelerator_mesh(), prompts, hosts)
    except KeyboardInterrupt as stopped:
        stopped.add_note(f"the same command continues {partial_name(config.out)}")
        raise
    if not hosts.index:  # process 0 says it for all
        say(bank_line(config.out, bank.manifest))
    return 0
