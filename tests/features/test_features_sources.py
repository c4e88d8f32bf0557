"""From published layouts on disk to a bank: every kind of source goes the whole way."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from tiny_clip import linear_towers, tiny_backbone

from fsclip_jax.data.registry import open_source
from fsclip_jax.features import extract as extract_module
from fsclip_jax.features.extract import bank_for, extract
from fsclip_jax.features.shards import ExtractSettings


def jpeg(index):
    pixels = np.random.default_rng(index).integers(0, 256, (40, 50, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


ROWS = [
    (f"{name}/{name}_{index}.jpg", label, name, 10 * label + index)
    for label, name in enumerate(("banded", "dotted"))
    for index in range(10)
]


@pytest.fixture
def coop(tmp_path):
    base = tmp_path / "ROOT" / "dtd"
    content = {"train": [], "val": [], "test": []}
    for row, (key, label, name, seed) in enumerate(ROWS):
        path = base / "images" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(seed))
        content[("train", "train", "val", "test")[row % 4]].append([key, label, name])
    (base / "split_zhou_DescribableTextures.json").write_text(json.dumps(content))
    return f"coop:dtd@{tmp_path / 'ROOT'}"


@pytest.fixture
def tfds(tmp_path, monkeypatch, coop):
    """The same images, prepared by TFDS, with the same split."""
    builders = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("array_record")
    del coop

    class Dtd(builders.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = builders.core.Version("3.0.1")

        def _info(self):
            features = {
                "image": builders.features.Image(),
                "label": builders.features.ClassLabel(names=["banded", "dotted"]),
                "file_name": builders.features.Text(),
            }
            return builders.core.DatasetInfo(
                builder=self, features=builders.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for key, label, _, seed in ROWS:
                yield key, {"image": io.BytesIO(jpeg(seed)), "label": label, "file_name": key}

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    builders.disable_progress_bar()
    Dtd(data_dir=str(tmp_path / "tfds")).download_and_prepare(file_format="array_record")
    split = tmp_path / "ROOT" / "dtd" / "split_zhou_DescribableTextures.json"
    return f"tfds:dtd@{split}"


@pytest.fixture
def linear(monkeypatch):
    linear_towers(monkeypatch.setattr)
    monkeypatch.setattr(extract_module, "load_clip", lambda _: tiny_backbone())


@pytest.mark.usefixtures("linear")
def test_folders_and_tfds_give_one_bank(coop, tfds, tmp_path):
    settings, cache = ExtractSettings(views=2), tmp_path / "cache"
    one, two = (bank_for(spec, "tiny", settings, cache) for spec in (coop, tfds))
    assert one.path != two.path
    assert one.keys == two.keys
    np.testing.assert_array_equal(one.features, two.features)
    np.testing.assert_array_equal(one.splits, two.splits)
    np.testing.assert_array_equal(one.text_features, two.text_features)
    assert one.manifest["templates"] == ["{} texture."]


@pytest.mark.usefixtures("linear")
def test_prompts_are_chosen_where_the_bank_is_made(coop, tmp_path):
    path = tmp_path / "cupl.json"
    path.write_text(json.dumps({"banded": ["stripes"], "dotted": ["dots", "spots"]}))
    cache = tmp_path / "cache"
    single = bank_for(coop, "tiny", cache=cache)
    ensemble = bank_for(coop, "tiny", ExtractSettings(templates="ensemble", prompts=True), cache)
    from_file = ExtractSettings(prompt_file=path, prompts=True)
    sentences = bank_for(coop, "tiny", from_file, cache)
    assert len({single.path, ensemble.path, sentences.path}) == 3
    assert ensemble.prompt_mask.sum(0).tolist() == [8, 8]
    assert sentences.prompt_mask.sum(0).tolist() == [1, 2]
    assert np.abs(single.text_features - ensemble.text_features).max() > 1e-3
    assert bank_for(coop, "tiny", from_file, cache).path == sentences.path


@pytest.mark.slow
@pytest.mark.usefixtures("linear")
def test_worker_processes_read_tfds_and_the_hubs_tables(tfds, tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["banded", "dotted"])}
    )
    cells = [{"bytes": jpeg(seed), "path": None} for *_, seed in ROWS]
    made = datasets.Dataset.from_dict(
        {"image": cells, "label": [label for _, label, _, _ in ROWS]}, features=features
    )
    (tmp_path / "table").mkdir()
    made.to_parquet(str(tmp_path / "table" / "train.parquet"))
    for name, spec in (("tfds", tfds), ("hf", f"hf:{tmp_path / 'table'}")):
        source = open_source(spec)
        banks = [
            extract(
                source,
                tiny_backbone(),
                tmp_path / f"{name}{workers}",
                ExtractSettings(batch=8, workers=workers),
            )
            for workers in (0, 1)
        ]
        np.testing.assert_array_equal(banks[0].features, banks[1].features)
        assert len(banks[0].keys) == 20
