"""Fuzzed readers of single files: pictures, tables of predictions, suites."""

import io
import json
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from example_suite import example_suite
from fuzz_watch import Target, kept_seeds, spoilt_folder
from PIL import Image

from fsclip_jax.errors import UserError

SIZE = 8


def _picture_seeds(_folder: Path) -> list[bytes]:
    """Every format that is promised, in the variants that decoders treat apart."""
    from fsclip_jax.pixels import reads_heic

    rows, columns = np.mgrid[0:17, 0:24]
    colours = np.stack([rows * 15, columns * 10, (rows * columns) % 256], -1).astype(np.uint8)
    rgb = Image.fromarray(colours)
    clear = Image.merge("RGBA", (*rgb.split(), rgb.split()[0]))
    deep = Image.fromarray(rows.astype(np.uint16) * 3000 + columns.astype(np.uint16))
    real = Image.fromarray(rows.astype(np.float32) / 17)
    exif = Image.Exif()
    exif[0x0112] = 6
    moving = {"save_all": True, "append_images": [rgb.transpose(Image.Transpose.ROTATE_180)]}
    wanted = [
        (rgb, "PNG", {"exif": exif}), (clear, "PNG", {}), (deep, "PNG", {"transparency": 3000}),
        (rgb.convert("P"), "PNG", {"transparency": 3}), (rgb, "PNG", {**moving}),
        (rgb, "JPEG", {"exif": exif}), (rgb, "JPEG", {"progressive": True, "subsampling": 0}),
        (rgb.convert("CMYK"), "JPEG", {}), (rgb.convert("L"), "JPEG", {}),
        (rgb, "WEBP", {}), (clear, "WEBP", {"lossless": True}), (rgb, "WEBP", {**moving}),
        (rgb, "BMP", {}), (rgb.convert("P"), "BMP", {}), (rgb.convert("1"), "BMP", {}),
        (rgb, "GIF", {**moving}), (rgb.convert("P"), "GIF", {"transparency": 1}),
        (rgb, "TIFF", {}), (deep, "TIFF", {}), (real, "TIFF", {}),
        (rgb, "TIFF", {"compression": "tiff_lzw"}), (rgb, "TIFF", {"compression": "jpeg"}),
        (clear, "TIFF", {"compression": "tiff_adobe_deflate"}), (rgb, "AVIF", {}),
        (clear, "AVIF", {"quality": 100}),
    ]  # fmt: skip
    if reads_heic():
        wanted += [(rgb, "HEIF", {"exif": exif.tobytes()}), (clear, "HEIF", {})]
    seeds = []
    for image, kind, how in wanted:
        file = io.BytesIO()
        image.save(file, kind, **how)
        seeds.append(file.getvalue())
    return seeds


def _read_picture(_folder: Path, data: bytes) -> None:
    from fsclip_jax.clip.preprocess import Preprocess
    from fsclip_jax.data.pictures import decode_image
    from fsclip_jax.data.source import UnreadableImage
    from fsclip_jax.pixels import hush_pillow

    content = _with_sums(data)
    with warnings.catch_warnings(record=True) as told:  # as an error it would be lost as any other
        warnings.simplefilter("always")
        hush_pillow()  # as the commands do
        try:
            upright = decode_image(content, "a", "upright")
            draft = decode_image(content, "a", "clip", SIZE)
        except UnreadableImage as error:
            raise UserError(str(error)) from error
        finally:
            assert not told, [str(each.message) for each in told]
        for image, how in ((upright, "crop"), (draft, "squash")):
            pixels = Preprocess(SIZE, fit=how).crop(image)
            assert pixels.shape == (SIZE, SIZE, 3)
            assert pixels.dtype == np.uint8


def _with_sums(data: bytes) -> bytes:
    """Give the parts of every other spoilt PNG their right sums: else only the sums are tried."""
    if data[:4] != b"\x89PNG" or len(data) % 2:
        return data
    fixed, at = [data[:8]], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        part = data[at + 4 : at + 8 + length]
        fixed.append(data[at : at + 4] + part + struct.pack(">I", zlib.crc32(part)))
        at += 12 + length
    return b"".join(fixed)


KEYS = ("a.png", 'b "quoted", c.png', "d\nbroken.png", "=e.png", "caf\udce9.png", "f\\x0d.png")
_CLASSES, _TOP = ("cat", "a, dog"), 2
_MADE_WITH = {"backbone": "0" * 64, "classes": list(_CLASSES), "temperature": 1.5, "top": _TOP}


def _rows(keys) -> list[list[str]]:
    from fsclip_jax.prediction.formats import prediction_row

    return [prediction_row(key, np.array([0.25, 0.75]), _CLASSES, _TOP, 0.0) for key in keys]


def _prediction_seeds(folder: Path) -> list[bytes]:
    """Tables that were begun, in CSV, for spreadsheets and in JSON, with what they were made by."""
    from fsclip_jax.prediction.table import PredictionTable

    for kind in ("plain", "safe", "whole.jsonl"):  # what is kept counts on their order
        place = folder / "honest" / kind
        place.mkdir(parents=True)
        file = place / f"p{place.suffix or '.csv'}"
        with PredictionTable(file, _TOP, _MADE_WITH, safe=kind == "safe") as table:
            table.add(_rows(KEYS[:4]))
    return kept_seeds(folder)


def _continue_predictions(folder: Path, data: bytes) -> None:
    """Continue a table: in the end every picture has its line, and all lines are whole."""
    from fsclip_jax.prediction.table import PredictionTable, read_rows

    place, _ = spoilt_folder(folder, data)
    safe = place.name == "safe"
    file = place / f"p{place.suffix or '.csv'}"
    with PredictionTable(file, _TOP, _MADE_WITH, safe=safe) as table:
        done = table.done
        table.add(_rows(key for key in KEYS if key not in done))
        table.finish()
    assert {*done, *KEYS} <= {row.image for row in read_rows(file, safe=safe)}


def _suite_seeds(_folder: Path) -> list[bytes]:
    from fsclip_jax.report.suite import suite_from_json, suite_to_json

    small = example_suite(("emoji", "pets"), ("zero_shot", "gda"), (1, 4), 2)
    old = json.loads((Path(__file__).parents[1] / "report" / "schema1_suite.json").read_text())
    old["cells"] = old["cells"][:3]
    texts = [json.dumps(small), json.dumps(old), suite_to_json(suite_from_json(json.dumps(small)))]
    return [text.encode() for text in texts]


def _read_suite(folder: Path, data: bytes) -> None:
    """Read it; what was taken can be shown, written, and read again."""
    from fsclip_jax.report.suite import read_suite, suite_from_json, suite_to_json
    from fsclip_jax.report.suite_markdown import suite_to_markdown

    (folder / "suite.json").write_bytes(data)
    suite = read_suite(folder)
    again = suite_from_json(suite_to_json(suite))
    assert len(again.cells) == len(suite.cells)
    suite_to_markdown(suite).encode()


def _shots_seeds(_folder: Path) -> list[bytes]:
    """Lines of 2SFS, and CoOp's pickles in two protocols, behind a byte that says which."""
    from shot_pickles import datums

    listed = [("a/1.jpg", 0, "cat"), ("a/2.jpg", 0, "cat"), ("b/3.jpg", 1, "dog")]
    names = ("impath", "label", "classname")
    lines = [json.dumps(dict(zip(names, each, strict=True)) | {"domain": 0}) for each in listed]
    lines.append(json.dumps(listed[0]))
    return [
        b"\0" + "\n".join(lines).encode(),
        *(b"\1" + datums({"train": listed, "val": listed[:1]}, protocol) for protocol in (2, 5)),
    ]


def _read_shots(folder: Path, data: bytes) -> None:
    from fsclip_jax.evaluation.shot_files import read_lines, read_pickled_lists

    path = folder / "shot_1-seed_1"
    path.write_bytes(data[1:])
    lists = read_pickled_lists(path) if data[:1] == b"\x01" else {"train": read_lines(path)}
    for each in lists["train"]:
        assert each.impath
        assert each.classname
        assert 0 <= each.label < 100_000


TARGETS = {
    "shots": Target(_shots_seeds, _read_shots),
    "pictures": Target(_picture_seeds, _read_picture),
    "predictions": Target(_prediction_seeds, _continue_predictions),
    "suite": Target(_suite_seeds, _read_suite),
}
