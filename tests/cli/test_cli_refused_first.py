"""What a method is refused for whatever the backbone, it is refused for before one is loaded."""

import numpy as np
import pytest
from PIL import Image

from fsclip_jax.cli.main import main

REFUSED = [
    ("export --format stablehlo --out out --method coop", "needs words"),
    ("export --format stablehlo --out out --method linear_probe", "fits by steps"),
    ("export --format stablehlo --out out --method meta_adapter", "is meta-trained once"),
    ("export --format stablehlo --out out --method rigde", "did you mean ridge"),
    ("export --format stablehlo --out out --support PICTURES --method rigde", "did you mean ridge"),
    ("export --format stablehlo --out out --support PICTURES --method timo", "needs prompts"),
    ("predict --support PICTURES --images PICTURES --method clip_lora", "export --format merged"),
    ("predict --support PICTURES --images PICTURES --method coop", "needs words"),
    ("predict --support PICTURES --images PICTURES --method meta_prior", "is meta-trained once"),
    ("detect --scenes scenes --out out --methods rigde", "did you mean ridge"),
    ("detect --scenes scenes --out out --methods clip_lora", "trains both towers"),
    ("segment --scenes scenes --out out --methods timo", "needs prompts"),
    ("eval --data folder:PICTURES --methods rigde", "did you mean ridge"),
    ("suite --data folder:PICTURES --methods rigde", "did you mean ridge"),
    ("train --data folder:PICTURES --method rigde", "did you mean ridge"),
    ("train --data folder:PICTURES --method taskres", "nothing to learn"),
]


@pytest.mark.parametrize(("words", "says"), REFUSED)
def test_no_backbone_is_looked_for(words, says, tmp_path, monkeypatch, capsys):
    for place in ("pictures/a/1.png", "pictures/b/1.png"):
        (tmp_path / place).parent.mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / place)
    monkeypatch.chdir(tmp_path)
    flag = "--backbones" if words.startswith("suite") else "--backbone"
    command = [*words.replace("PICTURES", "pictures").split(), flag, "no/such"]
    assert main(command) == 2
    (told,) = capsys.readouterr().err.strip().splitlines()
    assert says in told
    assert not (tmp_path / "out").exists()
