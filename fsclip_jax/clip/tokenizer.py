"""Prompts to token ids, through ``transformers``."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fsclip_jax.errors import UserError
from fsclip_jax.typing import Int

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt")
"""Files of which a folder with a tokenizer has at least one."""


@dataclass(frozen=True)
class Tokenizer:
    """A model's own tokenizer, cut and padded to its context length.

    Prompts start with the start-of-text token and end with the end-of-text token, also when
    they are cut; what follows is the tokenizer's own padding, which a causal tower never sees.
    """

    eos_id: int
    """Id of the end-of-text token."""
    context_length: int
    """Tokens of every row."""
    backend: Any = field(repr=False, compare=False)
    """The tokenizer of ``transformers``."""

    def __call__(self, texts: Sequence[str]) -> Int[np.ndarray, "batch length"]:
        """Tokenize prompts.

        Args:
            texts: prompts.

        Returns:
            int32 token ids, ``context_length`` a prompt.
        """
        if not texts:
            return np.zeros((0, self.context_length), np.int32)
        rows = self.backend(
            list(texts), padding="max_length", truncation=True, max_length=self.context_length
        )["input_ids"]
        return np.asarray(rows, np.int32)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, as ``load_tokenizer`` reads them."""
        self.backend.save_pretrained(folder)


def load_tokenizer(folder: Path, context_length: int, eos_id: int | None = None) -> Tokenizer:
    """Load the tokenizer of a model folder.

    Args:
        folder: holds ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``.
        context_length: the text tower's.
        eos_id: the id at which the text tower reads a prompt; None if it reads the largest id.

    Returns:
        The tokenizer.

    Raises:
        UserError: the files are missing or broken, or the tokenizer ends its prompts with
            another token than the one that the tower reads.
    """
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            f"{folder} has no tokenizer; wanted is tokenizer.json, or vocab.json with merges.txt, "
            "from the model's repository"
        )
    # Without torch, transformers says on stderr that it has no models; none are asked of it.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    from transformers import AutoTokenizer, CLIPTokenizer

    # Without a config that names its class, a tokenizer beside a CLIP is CLIP's.
    named = any((folder / name).is_file() for name in ("tokenizer_config.json", "config.json"))
    try:
        backend = (AutoTokenizer if named else CLIPTokenizer).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # transformers and tokenizers raise many kinds, bare ones among them
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"the tokenizer in {folder} cannot be loaded ({reason}); restore its files"
        ) from error
    return wrap_tokenizer(backend, context_length, eos_id)


def wrap_tokenizer(backend: Any, context_length: int, eos_id: int | None = None) -> Tokenizer:
    """Check a tokenizer of ``transformers`` against the text tower, and wrap it.

    Args:
        backend: the tokenizer.
        context_length: the text tower's.
        eos_id: the id at which the text tower reads a prompt; None if it reads the largest id.

    Returns:
        The tokenizer.

    Raises:
        UserError: it ends its prompts with another token than the one that the tower reads.
    """
    own = backend.eos_token_id
    if own is None:
        raise UserError("the tokenizer has no end-of-text token; CLIP reads its prompts there")
    if backend.pad_token_id is None:
        backend.pad_token = backend.eos_token
    tokenizer = Tokenizer(own, context_length, backend)
    row = tokenizer(["a"])[0]
    read = int(row.argmax()) if eos_id is None else int((row == eos_id).argmax())
    if row[read] != own or (row[:read] == own).any():
        rule = "the largest id" if eos_id is None else f"id {eos_id}"
        raise UserError(
            f"the tokenizer ends a prompt with id {own} and the config reads it at {rule}; "
            "use the tokenizer that belongs to the config"
        )
    return tokenizer
