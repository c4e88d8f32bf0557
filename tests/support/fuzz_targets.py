"""The readers that are fuzzed: for each, files to start from and what is done with a spoilt one.

A reader may take a file or raise a ``UserError``. Anything else is a bug. ``scripts/fuzz.py`` runs
them for long; ``test_fuzz_readers.py`` a little of each.
"""

import contextlib
import io
import json
import struct
import zipfile
from pathlib import Path

import fuzz_folders
import fuzz_models
import fuzz_tables
import numpy as np
from fuzz_watch import Target

EMOJI_FREE = "a cat", "a dog"


def _bank_seeds(folder: Path) -> list[bytes]:
    """Each file of a small bank behind a byte that says which one it is."""
    from fsclip_jax.features.layout import Rows
    from fsclip_jax.features.writing import Description, write_bank

    rng = np.random.default_rng(0)
    rows = Rows(
        rng.normal(size=(2, 6, 4)).astype(np.float32),
        np.arange(6, dtype=np.int32) % 2,
        np.arange(6, dtype=np.int8) % 3,
        [f"class/{row}.png" for row in range(6)],
        np.arange(6, dtype=np.int32) % 2,
        rng.normal(size=(6, 3, 4)).astype(np.float16),
    )
    write_bank(
        folder / "bank",
        rows,
        Description(
            text_features=rng.normal(size=(2, 4)).astype(np.float32),
            prompt_features=rng.normal(size=(2, 2, 4)).astype(np.float32),
            prompt_mask=np.ones((2, 2), bool),
            class_names=list(EMOJI_FREE),
            domain_names=["one", "two"],
            logit_scale=100.0,
            data={"spec": "test", "version": "1"},
            backbone={"id": "tiny", "sha256": "0" * 64},
            preprocessing={},
            templates=["a {}"],
            extra={"augmentation": {}},
        ),
        dtype="float32",
    )
    for name in _BANK_FILES:
        (folder / f"honest-{name}").write_bytes((folder / "bank" / name).read_bytes())
    return [
        bytes([place]) + (folder / "bank" / name).read_bytes()
        for place, name in enumerate(_BANK_FILES)
    ]


_BANK_FILES = ("manifest.json", "shard-00000.safetensors", "text.safetensors")


def _read_bank(folder: Path, data: bytes) -> None:
    from fsclip_jax.features.store import open_bank

    which, content = data[0] % 3 if data else 0, data[1:]
    files = {name: (folder / f"honest-{name}").read_bytes() for name in _BANK_FILES}
    files[_BANK_FILES[which]] = content
    if which:  # so that it is not refused for its size alone
        manifest = json.loads(files["manifest.json"])
        manifest["files"][_BANK_FILES[which]]["bytes"] = len(content)
        files["manifest.json"] = json.dumps(manifest).encode()
    for name, each in files.items():
        (folder / "bank" / name).write_bytes(each)
    stored = open_bank(folder / "bank")
    assert stored.features.shape == (stored.views, len(stored.labels), stored.dim)
    assert stored.prompt_features is None or stored.prompt_mask is not None
    if stored.patches:
        stored.read_patches(np.arange(len(stored.labels)))


def _report_seeds(_folder: Path) -> list[bytes]:
    from fsclip_jax.report.rows import report_from_json, report_to_json

    row = {
        "method": "tip_adapter",
        "shots": 1,
        "split": "test",
        "accuracy": {"mean": 51.5, "ci95": 1.25, "per_seed": [50.5, 52.5]},
        "selection": {"split": "val", "alpha": [1.0, 1.5]},
        "fit_seconds": 0.25,
        "predict_us_per_query": 12.5,
        "state_bytes": 2048,
        "class_mean_accuracy": 50.0,
        "calibration_error": 3.5,
        "negative_log_likelihood": 1.5,
        "versus": {"zero_shot": {"mean": 2.5, "ci95": None}},
    }
    picture = "data:image/png;base64,iVBORw0KGgo="
    near = {"picture": "a", "name": "cat", "similarity": 0.5}
    wrong = {
        "picture": "a",
        "true": "cat",
        "predicted": "dog",
        "confidence": 0.75,
        "nearest": [near],
    }
    seen = {"name": "cat", "why": "most gained", "gate": 0.5, "text_weight": 0.25}
    details = {
        "split": "test",
        "shots": 1,
        "draws": 2,
        "reference": "zero_shot",
        "method": "tip_adapter",
        "changes": {"classes": ["cat"], "reference": [50.0], "change": {"tip_adapter": [1.5]}},
        "confusions": [{"true": "cat", "predicted": "dog", "count": 1, "asked": 4, "picture": "a"}],
        "reliability": {"tip_adapter": {"confidence": [0.5], "accuracy": [0.5], "count": [3]}},
        "attention": [
            {**seen, "shots": [{"picture": "a", "weight": 0.75}], "before": 50.0, "after": 60.0}
        ],
        "attention_method": "meta_adapter",
        "gates": [0.25, 0.5],
        "mistakes": [wrong],
        "pictures": {"a": picture},
    }
    tree = {
        "schema": 1,
        "fsclip_version": "1.0",
        "command": "fsclip eval",
        "device": "cpu",
        "protocol": "full_way",
        "label_space": "restricted",
        "backbone": {"id": "mini", "sha256": "00"},
        "data": {"spec": "emoji", "n_classes": 2, "n_query": 8},
        "rows": [row, {**row, "method": "zero_shot", "versus": {}}],
        "settings": {"shots": [1], "seeds": 2},
        "checkpoints": [{"path": "runs", "method": "meta_adapter"}],
        "versions": {"jax": "0.10"},
        "warning": ["w"],
        "created": "2026-01-01",
    }
    old = [json.dumps(tree), json.dumps({**tree, "details": details})]
    new = [report_to_json(report_from_json(text)) for text in old]
    return [text.encode() for text in (*old, *new)]


def _read_report(folder: Path, data: bytes) -> None:
    from fsclip_jax.report.markdown import report_to_markdown
    from fsclip_jax.report.rows import read_report, report_from_json, report_to_json

    (folder / "report.json").write_bytes(data)
    report = read_report(folder)
    again = report_from_json(report_to_json(report))  # what was taken can be written and read again
    assert len(again.rows) == len(report.rows)
    report_to_markdown(report).encode()


def _config_seeds(_folder: Path) -> list[bytes]:
    lines = [
        "0 --data emoji --backbone mini --steps 10 --way 5 --shot 4 --query 3 --seed 1",
        "0 --workdir runs/a --learning-rate 1e-3 --resume --help",
        "1 --methods zero_shot tip_adapter --shots 1 2 4 --seeds 3 --protocol episodic",
        "1 --checkpoint a b --select none --no-prompts --templates ensemble --query-split val",
        "2 --support a --images b c --out d.csv --top 3 --unknown 0.5 --no-calibrate",
        "3 --checkpoint a --format stablehlo --out=d --shots 4",
        "4 report.json --out pages",
        "1 config.py --way 3",
    ]
    return [line.replace(" ", "\0").encode() for line in lines]


def _read_config(folder: Path, data: bytes) -> None:
    from fsclip_jax.cli.export import ExportConfig
    from fsclip_jax.cli.parsing import parse, split_config_file
    from fsclip_jax.cli.predict import PredictConfig
    from fsclip_jax.cli.report import ReportConfig
    from fsclip_jax.evaluation.config import EvalConfig
    from fsclip_jax.training.config import TrainConfig

    kinds = (TrainConfig, EvalConfig, PredictConfig, ExportConfig, ReportConfig)
    first, *words = data[:2000].decode("utf-8", "surrogateescape").split("\0")
    kind = kinds[ord(first[0]) % len(kinds) if first else 0]
    words = [word for word in words if word not in ("-h", "--help")]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            if kind in (TrainConfig, EvalConfig):
                _, words = split_config_file(words, folder)
                parse(kind, words, prog="fsclip x", default=kind())
            else:
                parse(kind, words, prog="fsclip x")
        except SystemExit as leaving:  # tyro's own flags, such as --tyro-print-completion
            if leaving.code:
                raise AssertionError(f"left with {leaving.code}") from leaving


def _tensors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"q_proj.weight": (4, 4), "k_proj.weight": (4, 4)}
    shapes |= {"alpha_proj.weight": (1, 4), "alpha_proj.bias": (1,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def _torch_seeds(folder: Path) -> list[bytes]:
    """An archive; the pickle of one; a file from before archives; each behind a byte."""
    from fsclip_jax.export.torch_zip import torch_archive

    tensors = _tensors()
    archive = torch_archive(tensors)
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        program = file.read("archive/data.pkl")
        storages = {str(i): file.read(f"archive/data/{i}") for i in range(len(tensors))}
    for key, data in storages.items():
        (folder / f"storage-{key}").write_bytes(data)
    return [b"\0" + archive, b"\1" + program, b"\2" + _legacy(program, storages)]


def _legacy(program: bytes, storages: dict[str, bytes]) -> bytes:
    def number(value: int) -> bytes:
        return b"\x80\x02M" + struct.pack("<H", value) + b"."

    magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
    machine = b"\x80\x02}X\x0d\0\0\0little_endian\x88s."
    keys = b"".join(b"X" + struct.pack("<I", len(key)) + key.encode() for key in storages)
    behind = [struct.pack("<q", len(data) // 4) + data for data in storages.values()]
    parts = [magic, number(1001), machine, program, b"\x80\x02](" + keys + b"e.", *behind]
    return b"".join(parts)


def _read_torch(folder: Path, data: bytes) -> None:
    from fsclip_jax.adapters.checkpoint import load_adapter
    from fsclip_jax.clip.pickles import read_torch

    which, content = data[0] % 3 if data else 0, data[1:]
    path = folder / "weights.pt"
    if which == 1:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
            for storage in sorted(folder.glob("storage-*")):
                key = storage.name.removeprefix("storage-")
                archive.writestr(f"archive/data/{key}", storage.read_bytes())
    else:
        path.write_bytes(content)
    for tensor in read_torch(path).values():
        assert tensor.size <= 1 << 20
    load_adapter(path)


def _adapter_seeds(_folder: Path) -> list[bytes]:
    from safetensors.numpy import save

    told = json.dumps({"method": "meta_adapter", "dim": 4, "config": {"heads": 2}})
    searched = json.dumps({"method": "tip_adapter", "backbone": "mini"})
    scalars = {"alpha": np.float32(1)[None][0:1].reshape(()), "beta": np.float32([2]).reshape(())}
    return [
        save(_tensors(), metadata={"fsclip_jax": told}),
        save(_tensors()),
        save(scalars, metadata={"fsclip_jax": searched}),
    ]


def _read_adapter(folder: Path, data: bytes) -> None:
    from fsclip_jax.adapters.checkpoint import restore_adapter

    (folder / "adapter.safetensors").write_bytes(data)
    restore_adapter(folder)


def _coco_seeds(_folder: Path) -> list[bytes]:
    """Annotations, and proposals, behind a byte that says which."""
    box = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 2, 3.5, 4], "area": 14.0}
    image = {"id": 1, "file_name": "a.png", "width": 32, "height": 24}
    plain = {"images": [image], "categories": [{"id": 2, "name": "cat"}]}
    plain["annotations"] = [{**box, "iscrowd": 0}]
    rare = {**image, "neg_category_ids": [3], "not_exhaustive_category_ids": []}
    names = [{"id": i, "name": n, "frequency": "r"} for i, n in ((2, "cat"), (3, "dog"))]
    lvis = {"images": [rare], "categories": names, "annotations": [box]}
    proposals = [{"image_id": 1, "bbox": [0, 0, 5, 5], "score": 0.5}]
    return [
        b"0" + json.dumps(plain).encode(),
        b"0" + json.dumps(lvis).encode(),
        b"1" + json.dumps(proposals).encode(),
    ]


def _read_coco(folder: Path, data: bytes) -> None:
    from fsclip_jax.data.coco_files import Picture, read_boxes, read_proposals

    path = folder / "boxes.json"
    path.write_bytes(data[1:])
    if data[:1] == b"1":
        read_proposals(path, [Picture(1, 32, 24, "a.png")])
    else:
        read_boxes(path)


TARGETS = {
    "bank": Target(_bank_seeds, _read_bank),
    "report": Target(_report_seeds, _read_report),
    "config": Target(_config_seeds, _read_config),
    "torch": Target(_torch_seeds, _read_torch),
    "adapter": Target(_adapter_seeds, _read_adapter),
    "coco": Target(_coco_seeds, _read_coco),
    **fuzz_tables.TARGETS,
    **fuzz_folders.TARGETS,
    **fuzz_models.TARGETS,
}
