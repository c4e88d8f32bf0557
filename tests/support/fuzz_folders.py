"""Fuzzed readers of several files: features to import and CoOp's folders."""

import json
import zipfile
from pathlib import Path

import numpy as np
from fuzz_watch import OUT, Target, kept_seeds, spoilt_folder


def _features() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "features": rng.normal(size=(2, 6, 4)).astype(np.float32),
        "labels": np.arange(6, dtype=np.int64) % 2,
        "text_features": rng.normal(size=(2, 4)).astype(np.float16),
        "prompt_features": rng.normal(size=(2, 2, 4)),
        "split": np.array(["train", "val", "test"] * 2),
        "class_names": np.array(["a cat", "a dög"]),
        "key": np.array([f"{row}.png".encode() for row in range(6)]),
        "domain": np.arange(6) % 3,
        "domain_names": np.array(["one", "two", "three"]),
        "logit_scale": np.float32(50),
    }


def _npz_seeds(folder: Path) -> list[bytes]:
    """Whole archives, and the arrays of one, which is put together again."""
    from fsclip_jax.export.torch_zip import torch_archive

    arrays = _features()
    for kind in ("arrays", "packed", "torch"):
        (folder / "honest" / kind).mkdir(parents=True)
    for name, array in arrays.items():
        np.save(folder / "honest" / "arrays" / f"{name}.npy", array)
    np.savez_compressed(folder / "honest" / "packed" / "features.npz", **arrays)
    numbers = {name: arrays[name] for name in ("features", "text_features")}
    archive = torch_archive({**numbers, "labels": np.eye(2, dtype=np.float32)[arrays["labels"]]})
    (folder / "honest" / "torch" / "features.pt").write_bytes(archive)
    return kept_seeds(folder)


def _import_features(folder: Path, data: bytes) -> None:
    """Import them; what was taken is a bank that opens, of vectors of length 1."""
    from fsclip_jax.features.importing import import_npz
    from fsclip_jax.features.store import open_bank

    place, spoilt = spoilt_folder(folder, data)
    if place.name == "arrays":
        packed = place / "features.npz"
        with zipfile.ZipFile(packed, "w") as archive:
            for path in sorted(place.glob("*.npy")):
                archive.write(path, path.name)
        spoilt = packed
    import_npz(spoilt, folder / OUT / "bank")
    stored = open_bank(folder / OUT / "bank")
    lengths = np.linalg.norm(np.asarray(stored.features, np.float32), axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=1e-2)
    assert 0 < stored.logit_scale < np.inf


_PICTURES = ("accordion/image_0001.jpg", "accordion/image_0002.jpg", "ant/image_0001.jpg")
_PICTURES += ("ant/image_0002.jpg", "ant/image_0003.jpg")


def _coop_seeds(folder: Path) -> list[bytes]:
    """A split file, the lists of FGVC-Aircraft, and ImageNet's names; pictures are only named."""
    honest = folder / "honest"
    splits: dict[str, list] = {"train": [], "val": [], "test": []}
    for place, name in enumerate(_PICTURES):
        label = int(name.startswith("ant"))
        entry = [name, label, ("accordion", "ant")[label]]
        splits[("train", "val", "test", "train", "test")[place]].append(entry)
        _empty(honest / "json" / "caltech-101" / "101_ObjectCategories" / name)
    split_file = honest / "json" / "caltech-101" / "split_zhou_Caltech101.json"
    split_file.write_text(json.dumps(splits))
    plane = honest / "planes" / "fgvc_aircraft"
    for number in range(6):
        _empty(plane / "images" / f"{number:07d}.jpg")
    (plane / "variants.txt").write_text("707-320\n727-200\nA310\n")
    for place, split in enumerate(("train", "val", "test")):
        lines = [f"{2 * place + i:07d} {('707-320', 'A310')[i]}\n" for i in range(2)]
        (plane / f"images_variant_{split}.txt").write_text("".join(lines))
    return kept_seeds(folder)


def _empty(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _read_coop(folder: Path, data: bytes) -> None:
    from fsclip_jax.data.coop import open_coop

    place, _ = spoilt_folder(folder, data)
    source = open_coop("caltech101" if place.name == "json" else "fgvc_aircraft", str(place))
    assert source.labels.shape == source.splits.shape == (len(source.keys),)
    assert 0 <= source.labels.min() <= source.labels.max() < len(source.class_names)
    base = source.load.root
    assert all((base / key).is_file() and ".." not in key for key in source.keys)


TARGETS = {
    "npz": Target(_npz_seeds, _import_features),
    "coop": Target(_coop_seeds, _read_coop),
}
