"""OpenAI's own byte-pair vocabulary, bundled, for weights that come without a tokenizer."""

import gzip
import os
from importlib import resources
from pathlib import Path
from typing import Any

from fsclip_jax.clip.config import TextConfig
from fsclip_jax.clip.tokenizer import (
    TOKENIZER_FILES,
    Tokenizer,
    load_tokenizer,
    wrap_tokenizer,
)

VOCAB_SIZE = 49408
"""Tokens of the vocabulary: 256 bytes, each also as the end of a word, the merges, two marks."""
START, END = "<|startoftext|>", "<|endoftext|>"


def bundled_tokenizer(context_length: int, eos_id: int | None = None) -> Tokenizer:
    """Build the tokenizer of OpenAI's CLIP from the bundled merges, without any download.

    OpenAI's archives hold no tokenizer, and open_clip's configs that name none mean this one.
    ``eos_id`` is the id at which the text tower reads a prompt, None if it reads the largest id.

    Raises:
        UserError: the tower reads its prompts at another id than the one that ends them here.

    Example:
        >>> bundled_tokenizer(8)(["a cat"]).tolist()
        [[49406, 320, 2368, 49407, 49407, 49407, 49407, 49407]]
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import CLIPTokenizer

    packed = resources.files("fsclip_jax") / "assets" / "bpe" / "merges.txt.gz"
    lines = gzip.decompress(packed.read_bytes()).decode().splitlines()
    merges: Any = [tuple(line.split(" ")) for line in lines]
    letters = _visible_bytes()
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [*("".join(pair) for pair in merges), START, END]
    vocab = {token: index for index, token in enumerate(tokens)}
    return wrap_tokenizer(CLIPTokenizer(vocab=vocab, merges=merges), context_length, eos_id)


def clip_tokenizer(folder: Path, text: TextConfig, bundled: bool) -> Tokenizer:
    """Load the tokenizer of a CLIP, or the bundled one where it is meant and none is there."""
    beside = any((folder / name).is_file() for name in TOKENIZER_FILES)
    if bundled and not beside and text.vocab_size == VOCAB_SIZE:
        return bundled_tokenizer(text.context_length, text.eos_id)
    return load_tokenizer(folder, text.context_length, text.eos_id)


def _visible_bytes() -> list[str]:
    """Name every byte by a character that can be seen: itself, or one from 256 on, in order."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(code) for code in (*visible, *range(256, 512 - len(visible)))]
