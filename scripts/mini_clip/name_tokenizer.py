"""A byte-level BPE tokenizer like CLIP's, learned from names."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

START, END = "<|startoftext|>", "<|endoftext|>"

_WORD_END = "</w>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
"""What CLIP takes for a word."""
_BREAKS = r"[-_\s]+"
"""Names of folders and icons break words with - and _."""


def train_tokenizer(names: Iterable[str], vocab_size: int) -> Tokenizer:
    """Learn merges from names.

    As in CLIP, the vocabulary is all bytes, all bytes that end a word, the merges in their
    order, and last the start and the end token: the end token has the largest id, which is how
    text towers of OpenAI's kind find the position to read.

    Args:
        names: the text to learn from.
        vocab_size: entries of the vocabulary, at least 514.

    Returns:
        A tokenizer that lower-cases and adds start and end.

    Example:
        >>> tokenizer = train_tokenizer(["red car", "red cat"], 520)
        >>> tokenizer.encode("RED").tokens
        ['<|startoftext|>', 'red</w>', '<|endoftext|>']
    """
    learner = Tokenizer(models.BPE(end_of_word_suffix=_WORD_END))
    _dress(learner)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*alphabet, *(letter + _WORD_END for letter in alphabet)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size + len(pieces),
        initial_alphabet=alphabet,
        end_of_word_suffix=_WORD_END,
        show_progress=False,
    )
    learner.train_from_iterator(names, trainer)
    merges = [tuple(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]
    tokens = dict.fromkeys(pieces)
    kept = []
    for left, right in merges:
        if len(tokens) == vocab_size - 2:
            break
        tokens[left + right] = None
        kept.append((left, right))
    vocabulary = {token: i for i, token in enumerate([*tokens, START, END])}
    tokenizer = Tokenizer(models.BPE(vocabulary, kept, end_of_word_suffix=_WORD_END, unk_token=END))
    _dress(tokenizer)
    tokenizer.add_special_tokens([START, END])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(token, vocabulary[token]) for token in (START, END)],
    )
    return tokenizer


def _dress(tokenizer: Tokenizer) -> None:
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            normalizers.Replace(Regex(_BREAKS), " "),
            normalizers.Lowercase(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )


def save_tokenizer(tokenizer: Tokenizer, folder: Path, context_length: int) -> None:
    """Write ``tokenizer.json`` and ``tokenizer_config.json`` for ``AutoTokenizer``.

    Args:
        tokenizer: from ``train_tokenizer``.
        folder: where to write.
        context_length: most tokens of a prompt.
    """
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context_length,
        "bos_token": START,
        "eos_token": END,
        "unk_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
