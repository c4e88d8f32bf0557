"""A tiny CLIP tokenizer and a model folder that the tests of loading share."""

import clip_cases as cases
import pytest

from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.clip.tokenizer import wrap_tokenizer

LETTERS = "!abcdefghij"


@pytest.fixture(scope="session")
def backend():
    """CLIP's own tokenizer class over 64 tokens: letters, pairs of letters, start and end."""
    from transformers import CLIPTokenizer

    merges = [("a", "b"), ("c", "d</w>")]
    tokens = [*LETTERS, *(letter + "</w>" for letter in LETTERS), *("".join(m) for m in merges)]
    tokens += [f"<extra{i}>" for i in range(62 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: i for i, token in enumerate(tokens)}, merges=merges)


@pytest.fixture(scope="session")
def tokenizer(backend):
    return wrap_tokenizer(backend, 10)


@pytest.fixture
def parts(tokenizer):
    """What saves a model that reads its prompts at the largest id, as this tokenizer ends them."""

    def make(name="patch16_quick_largest_id"):
        config = cases.config_of(name)
        _, state = cases.model_of(name)
        return config, state, Preprocess(config.vision.image_size), tokenizer

    return make
