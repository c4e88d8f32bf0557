"""`fsclip extract` from a folder of pictures and a model folder to a bank."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsclip_jax.cli.main import main
from fsclip_jax.features.store import open_bank


@pytest.fixture
def model(tmp_path):
    from transformers import CLIPTokenizer

    from fsclip_jax.clip.config import ClipConfig, TextConfig, VitConfig
    from fsclip_jax.clip.load import Tokenizer
    from fsclip_jax.clip.model import init_clip
    from fsclip_jax.clip.preprocess import Preprocess
    from fsclip_jax.clip.save import save_clip

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>"]
    vocab = {token: index for index, token in enumerate([*tokens, "<|endoftext|>"])}
    backend = CLIPTokenizer(vocab=vocab, merges=[])
    eos = vocab["<|endoftext|>"]
    text = TextConfig(len(vocab), 8, 16, 1, 2, 32, embed_dim=8, eos_id=eos)
    config = ClipConfig(VitConfig(32, 16, 24, 1, 3, 48, embed_dim=8), text)
    _, state = init_clip(config, 0)
    save_clip("hf", tmp_path / "model", config, state, Preprocess(32), Tokenizer(eos, 8, backend))
    return tmp_path / "model"


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(5):
            pixels = rng.integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    cut = tmp_path / "photos" / "dog" / "4.png"
    cut.write_bytes(cut.read_bytes()[:2000])
    return tmp_path / "photos"


@pytest.mark.slow
def test_pictures_become_a_bank(model, photos, tmp_path, capsys):
    out = tmp_path / "bank"
    flags = ["--data", f"folder:{photos}", "--backbone", str(model), "--out", str(out)]
    assert main(["extract", *flags, "--views", "2"]) == 0
    said = capsys.readouterr()
    assert "9 images, 1 unreadable, 2 view(s), 2 classes, dim 8" in said.out
    assert "dog/4.png" in said.err
    bank = open_bank(out, verify=True)
    assert bank.class_names == ("cat", "dog")
    assert sorted(bank.keys) == [f"cat/{i}.png" for i in range(5)] + [
        f"dog/{i}.png" for i in range(4)
    ]
    assert bank.manifest["skipped"] == ["dog/4.png"]
    assert bank.select(["train", "val", "test"]).sizes.tolist() == [5, 4]
    # The same again is done at once; something else is refused.
    assert main(["extract", *flags, "--views", "2"]) == 0
    assert main(["extract", *flags]) == 2
    assert "exists already" in capsys.readouterr().err
    # A class of which nothing is left.
    for file in (photos / "dog").iterdir():
        file.write_bytes(b"no picture")
    flags[-1] = str(tmp_path / "second")
    assert main(["extract", *flags]) == 2
    assert "no image can be read of the class dog" in capsys.readouterr().err
    assert not Path(flags[-1]).exists()
