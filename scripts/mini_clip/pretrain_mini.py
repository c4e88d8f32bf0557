"""Train the mini CLIP from scratch, or continue; then export it.

    python scripts/mini_clip/pretrain_mini.py --corpus DIR --workdir DIR --steps 4000
    python scripts/mini_clip/pretrain_mini.py --corpus DIR --workdir DIR --export DIR

The same command with the same workdir continues a run that was stopped. ``docs/mini_clip.md``
says how the bundled weights were made and how to make better ones.
"""

import argparse
import json
from pathlib import Path

from contrastive import ContrastiveConfig
from corpus import open_corpus
from export_mini import export_mini
from pretrain import LoopConfig, pretrain

from fsclip_jax.clip.config import ClipConfig, ResNetConfig, TextConfig

EMBED_DIM = 192
VOCABULARY = 4096

MODEL = ClipConfig(
    vision=ResNetConfig((1, 2, 2, 1), 28, image_size=32, embed_dim=EMBED_DIM, heads=14),
    text=TextConfig(
        vocab_size=VOCABULARY,
        context_length=16,
        width=128,
        layers=2,
        heads=4,
        mlp_width=512,
        embed_dim=EMBED_DIM,
        activation="gelu",
        eos_id=None,
    ),
)


def main() -> None:
    """Parse the arguments; train, or export."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="what build_corpus.py wrote")
    parser.add_argument("--workdir", type=Path, required=True, help="checkpoints and log")
    parser.add_argument("--steps", type=int, default=ContrastiveConfig.steps)
    parser.add_argument("--batch", type=int, default=ContrastiveConfig.batch)
    parser.add_argument("--checkpoint-every", type=int, default=LoopConfig.checkpoint_every)
    parser.add_argument("--eval-every", type=int, default=LoopConfig.eval_every)
    parser.add_argument("--export", type=Path, help="write the run's weights there, no training")
    args = parser.parse_args()
    config = ContrastiveConfig(steps=args.steps, batch=args.batch)
    if args.export:
        facts = export_mini(MODEL, config, args.corpus, args.workdir, args.export)
        print(json.dumps(facts, indent=2))
        return
    pretrain(
        MODEL,
        config,
        LoopConfig(checkpoint_every=args.checkpoint_every, eval_every=args.eval_every),
        open_corpus(args.corpus),
        args.corpus / "benchmark.npz",
        args.workdir,
    )


if __name__ == "__main__":
    main()
