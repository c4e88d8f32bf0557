"""``fsclip export``: a trained adapter, or a fitted classifier, for use without this package."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fsclip_jax.cli.parsing import parse
from fsclip_jax.errors import UserError, say
from fsclip_jax.prediction.config import FolderFit


@dataclass(frozen=True, kw_only=True)
class ExportConfig(FolderFit):
    """Write a trained adapter or a fitted classifier for use elsewhere."""

    out: Path
    """Folder to make. It must not be there."""
    format: Literal["safetensors", "torch-names", "stablehlo", "onnx", "merged", "peft"] = (
        "safetensors"
    )
    """`safetensors`: parameters under the published names. `torch-names`: the same for
    `torch.load`. `stablehlo`: a program that needs jax alone: the adapter, or, with `--support`,
    pictures to probabilities. `onnx`: the latter for onnxruntime, with the extra `[onnx]`.
    `merged`, `peft`: what clip_lora makes of `--support`, as a model folder in Hugging Face's
    layout, or the matrices alone. All but `--checkpoint` goes with these four alone."""
    support: Path | None = None
    """Folder of labelled pictures to fit to; the artifact then holds image tower and classifier."""


def main(argv: Sequence[str]) -> int:
    """Export and say what was written."""
    config = parse(ExportConfig, argv, prog="fsclip export")
    command = shlex.join(["fsclip", "export", *argv])  # for the model card
    if os.path.lexists(config.out):  # before anything that takes time
        raise UserError(f"{config.out} exists already: choose another --out, or remove it")
    if config.format == "onnx":
        _refuse_onnx(config)
    if config.format in ("merged", "peft"):
        files = _towers(config, config.format, command)
    elif config.format not in ("stablehlo", "onnx"):
        files = _weights(config, command)
    elif config.support is not None:
        files = _classifier(config, command)
    else:
        files = _program(config, command)
    say(f"wrote {', '.join(files)} to {config.out}")
    return 0


def _refuse_onnx(config: ExportConfig) -> None:
    """Refuse what makes no graph, before anything that takes time."""
    from fsclip_jax.export.onnx import require_onnx

    if config.support is None:
        raise UserError("--format onnx is of a fitted classifier: give --support DIR")
    require_onnx()


def _weights(config: ExportConfig, command: str) -> list[str]:
    for flag, value in (("support", config.support), ("method", config.method)):
        if value is not None:
            raise UserError(f"--{flag} goes with --format stablehlo or onnx; leave it out")
    if config.checkpoint is None:
        raise UserError(f"--format {config.format} needs --checkpoint DIR, a trained adapter")
    from fsclip_jax.export.run import export_weights

    torch = config.format == "torch-names"
    return export_weights(config.checkpoint, config.out, command, torch=torch)


def _towers(config: ExportConfig, form: Literal["merged", "peft"], command: str) -> list[str]:
    if config.support is None or config.method not in (None, "clip_lora"):
        raise UserError(
            f"--format {form} is for the towers that clip_lora trains: give --support DIR, a "
            "folder of labelled pictures, and no other --method"
        )
    from fsclip_jax.export.towers import export_towers

    return export_towers(config.support, config, form, config.out, command)


def _program(config: ExportConfig, command: str) -> list[str]:
    if config.checkpoint is None and config.method is None:
        raise UserError("give --checkpoint DIR, --method NAME or --support DIR to say what")
    from fsclip_jax.export.run import export_program

    return export_program(
        config.out,
        command,
        checkpoint=config.checkpoint,
        method=config.method,
        backbone=config.backbone,
    )


def _classifier(config: ExportConfig, command: str) -> list[str]:
    from fsclip_jax.export.run import export_ready, export_ready_onnx
    from fsclip_jax.prediction.run import fit_folder

    assert config.support is not None
    ready = fit_folder(config.support, config)
    say(ready.describe())
    write = export_ready_onnx if config.format == "onnx" else export_ready
    return write(ready, config.out, command, config.checkpoint)
