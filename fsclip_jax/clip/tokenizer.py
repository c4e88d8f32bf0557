"""Prompts to token ids, through ``transformers``."""

import contextlib
import html
import os
import string
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fsclip_jax.clip.files import read_json
from fsclip_jax.clip.plain_tokenizer import read_plain
from fsclip_jax.errors import UserError, first_line, require_extra
from fsclip_jax.typing import Int

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "spiece.model")
"""Files of which a folder with a tokenizer has at least one."""


@dataclass(frozen=True)
class Tokenizer:
    """A model's own tokenizer, cut and padded to its context length.

    Prompts start with the start-of-text token (SigLIP's have none) and end with the end-of-text
    token, also when they are cut. What follows is the tokenizer's own padding: a causal tower
    never sees it, SigLIP was trained with it.
    """

    eos_id: int
    """Id of the end-of-text token."""
    context_length: int
    """Tokens of every row."""
    backend: Any = field(repr=False, compare=False)
    """The tokenizer of ``transformers``, or a :class:`PlainTokenizer` that equals it."""
    clean: Callable[[str], str] = field(default=str, repr=False, compare=False)
    """What is done to a prompt first; the default is nothing."""
    vocab_size: int = 2**31
    """Entries of the tower's token table; an id beyond belongs to another model."""

    def __call__(self, texts: Sequence[str]) -> Int[np.ndarray, "batch length"]:
        """Tokenize prompts, to rows of ``context_length``.

        Raises:
            UserError: the tokenizer fails, or gives ids that the tower has not.
        """
        if not texts:
            return np.zeros((0, self.context_length), np.int32)
        cleaned = [self.clean(text) for text in texts]
        with _guarded("the tokenizer cannot take a prompt"):
            rows = self.backend(
                cleaned, padding="max_length", truncation=True, max_length=self.context_length
            )["input_ids"]
            ids = np.asarray(rows, np.int64)
        if ids.shape != (len(texts), self.context_length) or ids.max() >= self.vocab_size:
            raise UserError(
                f"the tokenizer gives {ids.shape[-1]} ids up to {ids.max()}, and the text tower "
                f"reads {self.context_length} below {self.vocab_size}; use the tokenizer of the "
                "model"
            )
        return ids.astype(np.int32)

    def too_long(self, texts: Sequence[str]) -> int:
        """Return how many prompts have more tokens than the tower reads; these are cut."""
        if not texts:
            return 0
        with _guarded("the tokenizer cannot take a prompt"):
            rows = self.backend([self.clean(text) for text in texts], verbose=False)["input_ids"]
        return sum(len(row) > self.context_length for row in rows)

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, as ``load_tokenizer`` reads them."""
        self.backend.save_pretrained(folder)


_ONE_AT_A_TIME = threading.Lock()


@contextlib.contextmanager
def _guarded(what: str) -> Iterator[None]:
    """Tell in one line whatever a tokenizer raises; a panic of its Rust is no ``Exception``.

    Rust writes a panic, with its backtrace, to the descriptor of the error stream before Python
    learns of it, and ``transformers`` warns there: meanwhile nothing is written.
    """
    with _ONE_AT_A_TIME, contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # the error stream may be closed
            heard = os.dup(2)
            stack.callback(os.close, heard)
            stack.callback(os.dup2, heard, 2)
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 2)
            os.close(silence)
        try:
            yield
        except (KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
            raise
        except BaseException as error:
            raise UserError(f"{what} ({first_line(error)}); restore its files") from error


def repair_text(text: str) -> str:
    """Repair a prompt as OpenAI's and open_clip's tokenizers do: encoding, quotes, HTML, spaces.

    Those of ``transformers`` repair nothing since version 5, and neither do we in its layout.

    Example:
        >>> repair_text("a  cat &amp;amp; a dog")
        'a cat & a dog'
    """
    import ftfy  # takes longer to import than most runs need it

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def _canonical(text: str) -> str:
    """Repair a prompt, and leave out its punctuation and capitals."""
    bare = repair_text(text).replace("_", " ").translate(_NO_PUNCTUATION)
    return " ".join(bare.lower().split())


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
CLEANINGS: Mapping[str, Callable[[str], str]] = {
    "lower": lambda text: repair_text(text).lower(),
    "whitespace": repair_text,
    "canonicalize": _canonical,
}
"""What open_clip does to prompts, by the names of its ``tokenizer_kwargs``."""


def load_tokenizer(folder: Path, context_length: int, eos_id: int | None = None) -> Tokenizer:
    """Load the tokenizer of a model folder, to be checked as by ``wrap_tokenizer``.

    Raises:
        UserError: the files are missing or broken, or the tokenizer ends its prompts with
            another token than the one that the tower reads.
    """
    _require_files(folder, "tokenizer.json, or vocab.json with merges.txt")
    kind, backend = _class_named(folder), None
    if kind == "PreTrainedTokenizerFast":
        with _guarded(f"the tokenizer in {folder} cannot be loaded"):
            backend = read_plain(folder)
    return wrap_tokenizer(backend or _open(folder, kind), context_length, eos_id)


def load_siglip_tokenizer(folder: Path, context_length: int) -> Tokenizer:
    """Load the tokenizer of a SigLIP or SigLIP 2.

    Prompts are put in small letters, padded on the right and ended by the end token. The first
    SigLIP leaves out punctuation too; that is in its tokenizer's own files.

    Raises:
        UserError: the files are missing or broken, or the tokenizer has no end or no padding.
    """
    _require_files(folder, "tokenizer.json or spiece.model")
    if (folder / "tokenizer.json").is_file():
        # The file itself: the class that a config names may build another pipeline around it.
        backend = _open(folder, "PreTrainedTokenizerFast")
    else:
        require_extra(["sentencepiece"], "siglip", f"the tokenizer {folder / 'spiece.model'}")
        backend = _open(folder, "SiglipTokenizer")
    if backend.pad_token_id is None or backend.eos_token_id is None:
        raise UserError(f"the tokenizer in {folder} has no end or no padding token; SigLIP's has")
    backend.padding_side = "right"
    tokenizer = Tokenizer(backend.eos_token_id, context_length, backend, clean=str.lower)
    if not _ends_and_pads(tokenizer):
        # Gemma's files may leave the end to a class that the config only names.
        backend.add_eos_token = True
    if not _ends_and_pads(tokenizer):
        raise UserError(
            f"the tokenizer in {folder} does not end a prompt with id {tokenizer.eos_id} and pad "
            f"it with id {backend.pad_token_id}; restore its files"
        )
    return tokenizer


def _ends_and_pads(tokenizer: Tokenizer) -> bool:
    row = tokenizer(["a"])[0]
    end = int((row == tokenizer.eos_id).argmax())
    padding = row[end + 1 :] == tokenizer.backend.pad_token_id
    return end > 0 and row[end] == tokenizer.eos_id and bool(padding.all())


def _require_files(folder: Path, wanted: str) -> None:
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            f"{folder} has no tokenizer; wanted is {wanted}, from the model's repository"
        )


def _class_named(folder: Path) -> str:
    own, model = folder / "tokenizer_config.json", folder / "config.json"
    if model.is_file():
        return "AutoTokenizer"
    if not own.is_file():  # a tokenizer beside a CLIP is CLIP's
        return "CLIPTokenizer"
    # What AutoTokenizer would find as well.
    plain = read_json(own).get("tokenizer_class") == "PreTrainedTokenizerFast"
    return "PreTrainedTokenizerFast" if plain else "AutoTokenizer"


def _open(folder: Path, kind: str) -> Any:
    # Without torch, transformers says on stderr that it has no models; none are asked of it.
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    import transformers

    with _guarded(f"the tokenizer in {folder} cannot be loaded"):
        return getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )


def wrap_tokenizer(backend: Any, context_length: int, eos_id: int | None = None) -> Tokenizer:
    """Check a tokenizer of ``transformers`` against the text tower, and wrap it.

    The tower reads a prompt at ``eos_id``; None if it reads it at the largest id.

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
