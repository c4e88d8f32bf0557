"""Fuzzed readers of several files: features to import, CoOp's folders, the folder of a training."""

import contextlib
import gc
import io
import json
import os
import shutil
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
from fuzz_watch import OUT, Target, kept_seeds, spoilt_folder

from fsclip_jax.errors import UserError


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


def _run_config():
    from fsclip_jax.training.config import TrainConfig

    return TrainConfig(
        data="bank:toy", classes="all", steps=2, way=3, shot=2, query=1, batch=1,
        warmup_steps=0, steps_per_dispatch=1, eval_every=1, checkpoint_every=1, val_episodes=1,
    )  # fmt: skip


_RUN, _CHECKPOINTS = "run/*", "run/checkpoints/**/*"


def _workdir_seeds(files: str, folder: Path) -> list[bytes]:
    """Files of a finished training: what it is, its log and its adapter; or its checkpoints."""
    from synthetic_bank import synthetic_bank

    from fsclip_jax.training.run import train

    stored = synthetic_bank(folder / "bank", counts={"train": 3, "val": 2, "test": 1})
    train(_run_config(), folder / "honest" / "run", lambda: stored)
    gc.freeze()  # a restore collects garbage, and would look through all that is imported
    return kept_seeds(folder, files)


def _continue_training(files: str, folder: Path, data: bytes) -> None:
    """Find the training done, or fall back to an older checkpoint; then read it as `eval` does.

    No step is trained, as each would compile: where one is needed, the run counts as refused.
    """
    from fsclip_jax.fitting.checkpoints import FeatureSpec, describe_checkpoint, find_checkpoints
    from fsclip_jax.training.metrics_log import METRICS_FILE, MetricsLog
    from fsclip_jax.training.run import train

    place, _ = spoilt_folder(folder, data, files)
    features, log = FeatureSpec(12, {"id": "toy", "sha256": "a" * 64}), folder / OUT / "log"
    log.mkdir()
    if (place / METRICS_FILE).is_file():
        shutil.copy(place / METRICS_FILE, log)
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        with contextlib.suppress(UserError):  # training may refuse what an evaluation takes
            for checkpoint in find_checkpoints((), features, ["meta_adapter"], place):
                json.dumps(describe_checkpoint(checkpoint), allow_nan=False)
        with contextlib.suppress(UserError), MetricsLog(log, 1):
            pass
        outcome = train(_run_config(), place, _no_bank)
    assert outcome.step <= 2
    assert all(line.startswith("note: ") for line in told.getvalue().splitlines()), told.getvalue()


def _no_bank():
    raise UserError("no step is trained here")


_SORTED = ("cat", "dog", "cat", "")


def _sort(folder: Path, how: str) -> tuple[Path, list[tuple[bytes, bytes]]]:
    """Sort some pictures; the folder, and what stands for the numbers of its files."""
    from fsclip_jax.prediction.formats import Row
    from fsclip_jax.prediction.sorting import sort_pictures

    rows = []
    for number, label in enumerate(_SORTED):
        file = folder / OUT / "home" / str(number) / "a.png"
        file.parent.mkdir(parents=True)
        file.write_bytes(b"picture %d" % number)
        os.utime(file, ns=(10**18, 10**18))
        rows.append(Row(str(file), label, (("cat", 0.9),), 0.5))
    numbers = [Path(row.image).stat().st_ino for row in rows]
    place = folder / OUT / "sorted"
    sort_pictures(rows, ["cat", "dog"], place, how)
    numbers.append(place.stat().st_ino)
    return place, [(b"%d" % n, b"7000%d000" % i) for i, n in enumerate(numbers)]


def _journal_seeds(folder: Path) -> list[bytes]:
    """Journals of pictures that were moved, and of links to them, behind a byte that says which."""
    from fsclip_jax.prediction.journal import NAME

    seeds = []
    for how in ("move", "link"):
        place, numbers = _sort(folder, how)
        journal = (place / NAME).read_bytes()
        for number, stand_in in numbers:
            journal = journal.replace(number, stand_in)
        seeds += [how[:1].encode() + journal, how[:1].encode() + journal[: len(journal) * 2 // 3]]
        shutil.rmtree(folder / OUT)
    return seeds


def _undo_by_journal(folder: Path, data: bytes) -> None:
    """Undo what a spoilt journal tells; every picture is there once more, whatever it says."""
    from fsclip_jax.prediction.journal import NAME
    from fsclip_jax.prediction.undo import undo

    place, numbers = _sort(folder, "link" if data[:1] == b"l" else "move")
    (place / "cat" / "mine.png").write_bytes(b"picture of mine")
    journal = data[1:]
    for number, stand_in in numbers:
        journal = journal.replace(stand_in, number)
    if any(folder / OUT not in path.parents for path in _told(journal)):
        raise UserError("it has pictures from elsewhere, where an undo would bring them")
    (place / NAME).write_bytes(journal)
    wanted = sorted([b"picture %d" % number for number in range(len(_SORTED))])
    try:
        undo(place)
    finally:
        there = [path for path in (folder / OUT).rglob("*") if path.name != NAME]
        files = {path.lstat().st_ino: path for path in there if path.is_file()}
        held = sorted(path.read_bytes() for path in files.values() if not path.is_symlink())
        assert [data for data in held if data] == [*wanted, b"picture of mine"]


def _told(journal: bytes) -> list[Path]:
    """Say where a journal has pictures from."""
    told = []
    for line in journal.splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            told.append(Path(os.path.normpath(json.loads(line)["image"])))
    return told


TARGETS = {
    "journal": Target(_journal_seeds, _undo_by_journal),
    "npz": Target(_npz_seeds, _import_features),
    "coop": Target(_coop_seeds, _read_coop),
    "workdir": Target(partial(_workdir_seeds, _RUN), partial(_continue_training, _RUN)),
    "checkpoints": Target(
        partial(_workdir_seeds, _CHECKPOINTS), partial(_continue_training, _CHECKPOINTS)
    ),
}
