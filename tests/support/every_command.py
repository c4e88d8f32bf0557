"""Every command on small files of its own, within a second or two once JAX is warm.

    every_command.py FILES OUT RESULTS [NAME ...]

As a program it runs the commands one after another in one process, whose streams, environment and
place the caller has chosen. RESULTS gets a line of JSON a command: its name, exit code, and what
it said on the error stream. With CLOCK in the environment it is that time, in seconds since 1970.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

BANKED = "--data bank:{files}/bank"
WORDS = {
    "train": f"train {BANKED} --workdir {{out}}/run --steps 4 --way 3 --shot 2 --query 2 --batch 2 "
    "--steps-per-dispatch 2 --eval-every 2 --checkpoint-every 2 --val-episodes 4 --classes all",
    "eval": f"eval {BANKED} --methods zero_shot prototype --shots 1 2 --seeds 2 --out {{out}}/eval",
    "suite": "suite --data bank:{files}/bank bank:{files}/other --methods zero_shot prototype "
    "--shots 1 --seeds 2 --out {out}/suite",
    "extract": "extract --data folder:{files}/photos/train --out {out}/bank --shard 3 --batch 4",
    "bank import": "bank import --features {files}/features.npz --out {out}/imported",
    "bank show": "bank show {files}/bank",
    "predict": "predict --support {files}/photos/train --images {files}/photos/test "
    "--method prototype --out {out}/predictions.csv --html --link-to {out}/sorted",
    "undo": "undo {files}/photos",
    "export": "export --checkpoint {files}/run --out {out}/weights",
    "export program": "export --checkpoint {files}/run --format stablehlo --out {out}/program",
    "export classifier": "export --support {files}/photos/train --method prototype "
    "--format stablehlo --out {out}/classifier",
    "report": "report {files}/eval --out {out}/pages",
    "report suite": "report {files}/suite --out {out}/pages",
    "detect": "detect --scenes {files}/scenes --out {out}/detect --shots 1 --seeds 2 --crops 1 "
    "--methods zero_shot prototype",
    "segment": "segment --scenes {files}/scenes --out {out}/segment --shots 1 --seeds 2 "
    "--methods zero_shot prototype --windows 128",
    "scenes": "scenes --images 2 --out {out}/scenes",
    "proposals": "scenes --proposals-for {files}/photos/test --out {out}/proposals",
    "methods": "methods",
    "backbones": "backbones",
    "datasets": "datasets",
    "completion": "completion bash",
}
"""Each writes below ``{out}`` and reads what :func:`write_files` made, in ``{files}``."""


def words_of(name, files, out):
    """The words of a command; folders may have spaces."""
    return [word.format(files=files, out=out) for word in WORDS[name].split()]


def write_files(files):
    """Write what the commands read, by the commands themselves where one makes it."""
    import numpy as np
    from emoji_folders import write_emoji
    from synthetic_bank import synthetic_bank

    from fsclip_jax.cli.main import main
    from fsclip_jax.scenes.build import build_scenes

    for name in ("bank", "other"):
        synthetic_bank(files / name, spec=name)
    write_emoji(files / "photos", 2)
    rng = np.random.default_rng(0)
    np.savez(
        files / "features.npz",
        features=rng.normal(size=(12, 8)).astype(np.float32),
        labels=np.arange(12) % 3,
        text_features=rng.normal(size=(3, 8)).astype(np.float32),
    )
    for name in ("train", "eval", "suite"):
        assert main(words_of(name, files, files)) == 0, name
    build_scenes(files / "scenes", images=2, per_half=2)


def run_all(files, out, results, names):
    """Run the commands and write down how each ended."""
    from fsclip_jax.cli.main import main

    while os.open(os.devnull, os.O_RDWR) <= 2:  # no file of ours gets a closed stream's number
        pass
    with open(results, "w", encoding="utf-8") as ended:
        for name in names:
            with tempfile.TemporaryFile() as said:
                kept = os.dup(2)
                os.dup2(said.fileno(), 2)
                try:
                    code = main(words_of(name, files, out / name.replace(" ", "_")))
                finally:
                    os.dup2(kept, 2)
                    os.close(kept)
                said.seek(0)
                told = said.read().decode(errors="replace")
            print(json.dumps([name, code, told]), file=ended, flush=True)


if __name__ == "__main__":
    if "CLOCK" in os.environ:
        time.time = lambda: float(os.environ["CLOCK"])
    run_all(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:] or list(WORDS))
