"""``fsclip bank import`` and ``fsclip bank show``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fsclip_jax.cli.listing import bank_line, print_facts
from fsclip_jax.cli.parsing import parse
from fsclip_jax.errors import UserError, say, suggestion, tell

_USAGE = """usage: fsclip bank import --features F.npz --out DIR   make a bank from features
       fsclip bank show DIR [--verify]                say what is in a bank
(each takes --help)"""


@dataclass(frozen=True)
class ImportConfig:
    """Make a feature bank from a NumPy .npz, or a PyTorch .pt, of features."""

    features: Path
    """NumPy .npz, or .pt of tensors, with features, labels and, if there is text,
    text_features; docs/data.md lists what else."""
    out: Path
    """Folder to make."""
    logit_scale: float | None = None
    """Inverse temperature of the backbone; else the file's own, else 100 (OpenAI's CLIP)."""
    backbone_id: str = "unknown"
    """What to call the backbone that made the features."""
    dtype: Literal["float16", "float32"] = "float16"
    """Type in which the features are stored."""


@dataclass(frozen=True)
class ShowConfig:
    """Say what is in a feature bank."""

    path: Annotated[Path, tyro.conf.Positional]
    """The folder of the bank."""
    verify: bool = False
    """Compare the sha256 of every file with the manifest."""


def import_bank(config: ImportConfig) -> int:
    """Make a bank from an ``.npz`` and say what was decided on the way."""
    from fsclip_jax.features.importing import import_npz

    made = import_npz(
        config.features,
        config.out,
        logit_scale=config.logit_scale,
        backbone_id=config.backbone_id,
        dtype=config.dtype,
    )
    tell(made.notes)
    say(bank_line(config.out, made.bank.manifest))
    return 0


def show_bank(config: ShowConfig) -> int:
    """Print what is in a bank."""
    from fsclip_jax.features.show import bank_facts
    from fsclip_jax.features.store import open_bank

    facts = bank_facts(open_bank(config.path, verify=config.verify))
    say(f"feature bank {config.path}")
    print_facts(facts)
    if config.verify:
        print("every sha256 is as the manifest says")
    return 0


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    command = argv[0] if argv else "--help"
    if command in ("-h", "--help"):
        print(_USAGE)
        return 0
    if command == "import":
        return import_bank(parse(ImportConfig, argv[1:], prog="fsclip bank import"))
    if command == "show":
        return show_bank(parse(ShowConfig, argv[1:], prog="fsclip bank show"))
    hint = suggestion(command, ("import", "show"))
    raise UserError(f"fsclip bank {command} is not known; accepted: import, show{hint}")
