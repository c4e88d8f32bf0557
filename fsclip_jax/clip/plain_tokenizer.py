"""A tokenizer that is its file alone, read without ``transformers``, which takes a second."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from fsclip_jax.clip.files import read_json

_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
_SAID = {*_TOKENS, "tokenizer_class", "model_max_length", "clean_up_tokenization_spaces"}
_ELSEWHERE = ("special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


class PlainTokenizer:
    """What ``PreTrainedTokenizerFast`` does with prompts, where its config only names tokens."""

    def __init__(self, core: Tokenizer, said: Mapping[str, Any]) -> None:
        self._core, self._said = core, said
        self._pad = said["pad_token"]
        self.bos_token_id = core.token_to_id(said["bos_token"])
        self.eos_token_id = core.token_to_id(said["eos_token"])
        self.pad_token_id = core.token_to_id(self._pad)

    def __call__(
        self,
        texts: Sequence[str],
        *,
        padding: str = "",
        truncation: bool = False,
        max_length: int = 0,
        verbose: bool = False,
    ) -> dict[str, list[list[int]]]:
        """Tokenize prompts; cut and padded to ``max_length`` where it is asked for."""
        del verbose
        if truncation:
            self._core.enable_truncation(max_length)
        else:
            self._core.no_truncation()
        if padding:
            self._core.enable_padding(
                length=max_length, pad_id=self.pad_token_id, pad_token=self._pad
            )
        else:
            self._core.no_padding()
        return {"input_ids": [row.ids for row in self._core.encode_batch(list(texts))]}

    def save_pretrained(self, folder: Path) -> None:
        """Write the files that ``transformers`` writes."""
        from transformers import PreTrainedTokenizerFast

        said = {name: value for name, value in self._said.items() if name != "tokenizer_class"}
        cut = self._core.truncation
        self([""])  # or it would take how prompts are cut for a setting of its own
        local = {"is_local": True, "local_files_only": True}
        same = PreTrainedTokenizerFast(tokenizer_object=self._core, **said, **local)
        if cut:
            same([""], padding="max_length", truncation=True, max_length=cut["max_length"])
        same.save_pretrained(folder)


def read_plain(folder: Path) -> PlainTokenizer | None:
    """Read the tokenizer of a folder; None where its files say more than is understood here."""
    file = folder / "tokenizer.json"
    if not file.is_file() or any((folder / name).exists() for name in _ELSEWHERE):
        return None
    said = read_json(folder / "tokenizer_config.json")
    if set(said) - _SAID or not all(isinstance(said.get(name), str) for name in _TOKENS):
        return None
    core = Tokenizer.from_file(str(file))
    added = {token.content for token in core.get_added_tokens_decoder().values() if token.special}
    return PlainTokenizer(core, said) if added.issuperset(said[name] for name in _TOKENS) else None
