"""``fsclip scenes``: an offline task for detection and segmentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsclip_jax.cli.parsing import parse
from fsclip_jax.errors import say


@dataclass(frozen=True)
class ScenesConfig:
    """Compose scenes of the bundled art with boxes and masks."""

    out: Path
    """Folder to make."""
    seed: int = 0
    """Seed of all that is random: the same seed gives the same files."""
    images: int = 160
    """Scenes of the test split; train and val have half as many."""
    proposals_for: tuple[Path, ...] = ()
    """Compose nothing, but propose boxes for these pictures or folders of pictures."""


def main(argv: Sequence[str]) -> int:
    """Run the command."""
    config = parse(ScenesConfig, argv, prog="fsclip scenes")
    if config.proposals_for:
        from fsclip_jax.scenes.proposals import propose_for

        count = propose_for(config.proposals_for, config.out)
        say(f"{config.out / 'proposals.json'}: {count} boxes")
        return 0
    from fsclip_jax.scenes.build import build_scenes

    def each(split: str, counts: dict[str, Any]) -> None:
        parts = ", ".join(f"{value} {name}" for name, value in counts.items())
        print(f"{split:<8}{parts}", flush=True)

    build_scenes(config.out, seed=config.seed, images=config.images, say=each)
    say(str(config.out))
    return 0
