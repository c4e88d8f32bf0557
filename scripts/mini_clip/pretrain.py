"""Pretraining of the small CLIP: batches in, checkpoints, a log and zero-shot accuracy out."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from contrastive import (
    ContrastiveConfig,
    ContrastiveState,
    PairBatch,
    init_contrastive,
    make_step,
)
from corpus import Corpus, encode_names, make_batch
from flax import nnx
from name_tokenizer import train_tokenizer
from PIL import Image
from tokenizers import Tokenizer

from fsclip_jax.clip.config import ClipConfig
from fsclip_jax.clip.model import encode_image, encode_text
from fsclip_jax.numerics import l2_normalize
from fsclip_jax.typing import Array, Float, Int, Params, UInt8


@dataclass(frozen=True)
class LoopConfig:
    """How often the loop speaks and saves. Nothing here changes the weights."""

    log_every: int = 20
    """Steps between lines of the log."""
    eval_every: int = 200
    """Steps between zero-shot evaluations."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""


@dataclass(frozen=True)
class ZeroShot:
    """Labelled pictures to classify by their class names, none of them trained on."""

    pixels: np.ndarray
    """uint8 [n size size 3]."""
    labels: np.ndarray
    """int32 [n]."""
    ids: np.ndarray
    """Token ids of the class names, int32 [classes length]."""


def open_zero_shot(path: Path, tokenizer: Tokenizer, size: int) -> ZeroShot:
    """Read ``benchmark.npz`` of a corpus and resize its pictures as CLIP does.

    Args:
        path: the file.
        tokenizer: of the run.
        size: side of the images that the tower takes.

    Returns:
        The pictures, their labels and the encoded class names.
    """
    data = np.load(path, allow_pickle=False)
    resized = [
        np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))
        for picture in data["pictures"]
    ]
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(data["names"].tolist())]
    ids = np.full((len(encoded), max(map(len, encoded))), encoded[0][-1], np.int32)
    for row, tokens in zip(ids, encoded, strict=True):
        row[: len(tokens)] = tokens
    return ZeroShot(np.stack(resized), data["labels"], ids)


def zero_shot_accuracy(
    graphdef: nnx.GraphDef, weights: Any, data: ZeroShot, chunk: int = 512
) -> dict[str, float]:
    """Classify every picture by the nearest class name.

    Args:
        graphdef: static part of the ``Clip``.
        weights: all of its weights.
        data: what to classify.
        chunk: pictures encoded together.

    Returns:
        ``top1`` and ``top5`` in percent.
    """
    texts = l2_normalize(_encode_text(graphdef, weights, jnp.asarray(data.ids)))
    rank = []
    for start in range(0, len(data.pixels), chunk):
        part = data.pixels[start : start + chunk]
        padded = np.concatenate([part, np.zeros((chunk - len(part), *part.shape[1:]), np.uint8)])
        logits = np.asarray(_score(graphdef, weights, padded, texts))[: len(part)]
        right = logits[np.arange(len(part)), data.labels[start : start + chunk]]
        rank.append((logits > right[:, None]).sum(1))
    ranks = np.concatenate(rank)
    return {"top1": 100 * float((ranks < 1).mean()), "top5": 100 * float((ranks < 5).mean())}


_encode_text = jax.jit(encode_text, static_argnums=0)


@jax.jit(static_argnums=0)
def _score(
    graphdef: nnx.GraphDef,
    weights: Any,
    pixels: UInt8[Array, "n size size 3"],
    texts: Float[Array, "classes dim"],
) -> Float[Array, "n classes"]:
    images = encode_image(graphdef, weights, pixels.astype(jnp.float32) / 127.5 - 1.0)
    return l2_normalize(images) @ texts.T


def mean_weights(graphdef: nnx.GraphDef, state: ContrastiveState) -> Params:
    """Return the running mean of all weights as one state, to evaluate and to save."""
    clip = nnx.merge(graphdef, state.mean_params, state.mean_stats, copy=True)
    return nnx.state(clip)


class PretrainCheckpoints:
    """The last two states of a run, each whole or absent.

    Args:
        folder: where they are.
        read_only: leave the folder alone, which another process may be writing.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else 2,
            read_only=read_only,
            enable_async_checkpointing=False,
            cleanup_tmp_directories=not read_only,
        )
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def save(self, state: ContrastiveState) -> None:
        """Write a state."""
        self._manager.save(int(state.step), args=ocp.args.StandardSave(_flat(state)))

    def restore(self, like: ContrastiveState) -> ContrastiveState | None:
        """Read the newest state; None if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return None
        flat = self._manager.restore(step, args=ocp.args.StandardRestore(_flat(like)))
        leaves = [jnp.asarray(flat[key]) for key in sorted(flat)]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    def close(self) -> None:
        """Release the folder."""
        self._manager.close()


def _flat(state: ContrastiveState) -> dict[str, np.ndarray]:
    # Numbered leaves: the module lists have integer keys, which the checkpoint would rename.
    return {f"{i:05d}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def batches(
    corpus: Corpus, ids: Int[np.ndarray, "names length"], config: ContrastiveConfig, start: int
) -> Iterator[PairBatch]:
    """Yield the batches from a step on; the next one is read while the device works."""
    with ThreadPoolExecutor(1) as pool:

        def load(step: int) -> Any:
            return pool.submit(make_batch, corpus, ids, config.batch, config.seed, step)

        ahead = load(start)
        for step in range(start, config.steps):
            batch = ahead.result()
            if step + 1 < config.steps:
                ahead = load(step + 1)
            yield batch


def load_tokenizer(corpus: Corpus, workdir: Path, model: ClipConfig) -> Tokenizer:
    """Open the tokenizer of a run, or learn it from the corpus' names when there is none."""
    path = workdir / "tokenizer.json"
    if not path.exists():
        train_tokenizer(corpus.names, model.text.vocab_size).save(str(path))
    return Tokenizer.from_file(str(path))


def pretrain(
    model: ClipConfig,
    config: ContrastiveConfig,
    loop: LoopConfig,
    corpus: Corpus,
    zero_shot: Path | None,
    workdir: Path,
) -> tuple[nnx.GraphDef, ContrastiveState]:
    """Train, or continue a run whose checkpoints lie in the folder.

    Args:
        model: shapes of both towers.
        config: the recipe.
        loop: how often to log, evaluate and save.
        corpus: pictures with names.
        zero_shot: ``benchmark.npz``, for the log alone; no weights are chosen by it.
        workdir: gets ``checkpoints/``, ``log.jsonl``, ``config.json`` and ``tokenizer.json``.

    Returns:
        The static part of the ``Clip`` and the last state.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(corpus, workdir, model)
    ids = encode_names(corpus, tokenizer, model.text.context_length)
    data = open_zero_shot(zero_shot, tokenizer, model.vision.image_size) if zero_shot else None
    (workdir / "config.json").write_text(
        json.dumps({"model": asdict(model), "recipe": asdict(config)}, indent=2) + "\n"
    )
    graphdef, state = init_contrastive(model, config)
    checkpoints = PretrainCheckpoints(workdir / "checkpoints")
    state = checkpoints.restore(state) or state
    step = make_step(graphdef, model, config)
    key = jax.random.key(config.seed)
    start = int(state.step)
    clock, seen = time.perf_counter(), start
    with (workdir / "log.jsonl").open("a") as log:
        for number, batch in enumerate(batches(corpus, ids, config, start), start + 1):
            state, metrics = step(state, batch, key)
            last = number == config.steps
            if number % loop.log_every == 0 or last:
                row = {"step": number, **{k: float(v) for k, v in metrics._asdict().items()}}
                now = time.perf_counter()
                rate = (number - seen) / (now - clock)
                clock, seen = now, number
                row |= {"samples_per_second": rate * config.batch}
                row |= {"minutes_left": (config.steps - number) / rate / 60}
                if not np.isfinite(row["loss"]):
                    raise FloatingPointError(f"the loss is {row['loss']} at step {number}")
                _tell(log, row)
            if data and (number % loop.eval_every == 0 or last):
                _tell(
                    log,
                    {
                        "step": number,
                        **zero_shot_accuracy(graphdef, mean_weights(graphdef, state), data),
                    },
                )
            if number % loop.checkpoint_every == 0 or last:
                checkpoints.save(state)
    checkpoints.close()
    return graphdef, state


def _tell(log: Any, row: dict[str, float | int]) -> None:
    log.write(json.dumps(row) + "\n")
    log.flush()
    print(
        "  ".join(f"{k} {v:.4g}" if k != "step" else f"step {v}" for k, v in row.items()),
        flush=True,
    )
