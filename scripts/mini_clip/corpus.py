"""Batches of pictures with names out of a corpus that ``scripts/build_corpus.py`` wrote."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from contrastive import PairBatch
from tokenizers import Tokenizer

from fsclip_jax.errors import UserError

MIX: Mapping[str, float] = {"emoji": 0.25, "color": 0.3, "glyph": 0.45}
"""Parts of a batch: emoji of other concepts, multi-colour icons, one-colour icons."""

OWN_NAME = 0.65
"""How often a picture goes under its own name; otherwise under a synonym, if it has one."""


@dataclass(frozen=True)
class Corpus:
    """Pictures and glyphs on disk, and their names in memory."""

    pictures: np.ndarray
    """uint8 [n side side 3], read from disk as needed."""
    glyphs: np.ndarray
    """uint8 [m side side 2], read from disk as needed."""
    names: tuple[str, ...]
    """The distinct names."""
    name_ids: np.ndarray
    """int32 [n+m most]: names of each picture, then of each glyph; its own first, -1 for none."""
    odds: Mapping[str, np.ndarray]
    """By kind: cumulative sampling odds over all pictures and glyphs, ending at 1."""


def open_corpus(folder: Path) -> Corpus:
    """Open a corpus.

    Args:
        folder: what ``build_corpus.py --out`` wrote.

    Returns:
        The corpus; its pictures stay on disk.

    Raises:
        UserError: a file of it is missing.
    """
    try:
        index = np.load(folder / "index.npz", allow_pickle=False)
        pictures = np.load(folder / "pictures.npy", mmap_mode="r", allow_pickle=False)
        glyphs = np.load(folder / "glyphs.npy", mmap_mode="r", allow_pickle=False)
        names = tuple(json.loads((folder / "names.json").read_text("utf-8")))
    except FileNotFoundError as error:
        raise UserError(
            f"{folder} holds no corpus ({error.filename} is missing): "
            "build it with scripts/build_corpus.py --out DIR"
        ) from error
    odds = {}
    for kind, number in zip(MIX, range(len(MIX)), strict=True):
        weight = np.where(index["kind"] == number, index["weight"], 0.0).astype(np.float64)
        odds[kind] = np.cumsum(weight) / weight.sum()
    return Corpus(pictures, glyphs, names, index["names"], odds)


def encode_names(corpus: Corpus, tokenizer: Tokenizer, context_length: int) -> np.ndarray:
    """Encode every name of a corpus.

    Args:
        corpus: the corpus.
        tokenizer: adds start and end itself.
        context_length: most tokens of a prompt.

    Returns:
        int32 [names length], padded with the end token; ``length`` is that of the longest name,
        since a causal tower needs no padding to its full context.
    """
    tokenizer.enable_truncation(context_length)
    encoded = [encoding.ids for encoding in tokenizer.encode_batch(list(corpus.names))]
    length = max(map(len, encoded))
    ids = np.full((len(encoded), length), encoded[0][-1], np.int32)
    for row, tokens in zip(ids, encoded, strict=True):
        row[: len(tokens)] = tokens
    return ids


def make_batch(corpus: Corpus, ids: np.ndarray, size: int, seed: int, step: int) -> PairBatch:
    """Draw the batch of one step; it depends on the seed and the step alone.

    Args:
        corpus: the corpus.
        ids: tokens of every name, from ``encode_names``.
        size: pairs in the batch.
        seed: of the run.
        step: number of the step.

    Returns:
        The batch, in the proportions of ``MIX``, on the host.
    """
    rng = np.random.default_rng((seed, step))
    counts = [round(size * part) for part in MIX.values()]
    counts[-1] = size - sum(counts[:-1])
    chosen = np.concatenate(
        [
            np.searchsorted(corpus.odds[kind], rng.random(count), side="right")
            for kind, count in zip(MIX, counts, strict=True)
        ]
    )
    n_pictures = counts[0] + counts[1]
    names = corpus.name_ids[chosen]
    synonyms = (names >= 0).sum(1) - 1
    other = 1 + (rng.random(size) * synonyms).astype(np.int32)
    use_own = (rng.random(size) < OWN_NAME) | (synonyms == 0)
    name = names[np.arange(size), np.where(use_own, 0, other)]
    return PairBatch(
        pictures=corpus.pictures[chosen[:n_pictures]],
        glyphs=corpus.glyphs[chosen[n_pictures:] - len(corpus.pictures)],
        ids=ids[name],
        names=name,
    )
