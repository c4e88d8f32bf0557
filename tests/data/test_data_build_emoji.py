"""The builder against the committed bundle; needs the npm packages, see docs/data.md."""

import json
import os
import sys
from pathlib import Path

import pytest

import fsclip_jax

ROOT = Path(fsclip_jax.__file__).parents[1]
ASSETS = ROOT / "fsclip_jax" / "assets" / "emoji"
NPM = Path(os.environ.get("FSCLIP_NPM", ROOT / "build" / "npm"))


@pytest.fixture
def scripts(monkeypatch):
    if not (ROOT / "scripts" / "build_emoji.py").is_file():
        pytest.skip("scripts/ is not part of an installed package")
    if not (NPM / "node_modules" / "@iconify" / "json").is_dir():
        pytest.skip(f"no npm packages in {NPM}; set FSCLIP_NPM to the folder of node_modules")
    pytest.importorskip("resvg", reason="the builder draws with resvg")
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    yield
    for name in ("build_emoji", "emoji_concepts", "iconify"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("scripts")
def test_matching_gives_the_committed_classes_and_sets():
    import build_emoji
    import emoji_concepts

    concepts = emoji_concepts.benchmark_concepts(emoji_concepts.match(NPM))
    concepts = sorted(concepts, key=build_emoji.class_order)
    committed = json.loads((ASSETS / "emoji.json").read_text("utf-8"))
    assert build_emoji.describe_classes(concepts) == committed["classes"]


@pytest.mark.slow
@pytest.mark.usefixtures("scripts")
def test_building_gives_the_committed_bundle(tmp_path):
    import build_emoji

    build_emoji.main(["--npm", str(NPM), "--out", str(tmp_path)])
    # The index holds the sha256 of every sheet's pixels. The bytes of the WebP files also
    # depend on the version of the encoder, so they are not compared.
    assert (tmp_path / "emoji.json").read_bytes() == (ASSETS / "emoji.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        path.name for path in ASSETS.iterdir() if path.suffix in (".json", ".webp")
    )
