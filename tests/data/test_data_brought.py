"""Pictures as people bring them: odd modes, extreme shapes, and files that are no pictures."""

import io
import os
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsclip_jax.clip.load import load_clip
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.data.pictures import decode_image, read_image
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.features.decode import make_decoder
from fsclip_jax.prediction.images import encode_pictures, loaded_source, picture_source

SUPPORT = str(Path(__file__).parents[1] / "support")
NOISE = np.random.default_rng(0)


def noise(*shape, top=256, kind=np.uint8):
    return NOISE.integers(0, top, shape).astype(kind)


def file_of(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pillows(data, *, white):
    """The reference: Pillow's own RGB, or its RGBA laid on white."""
    image = Image.open(io.BytesIO(data))
    if not white:
        image = image.convert("RGBA") if image.mode == "P" else image  # the same, without a warning
        return np.asarray(image.convert("RGB"))
    image = image.convert("RGBA")
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image))[..., :3]


RGB, GREY = Image.fromarray(noise(9, 11, 3, top=2) * 200), Image.fromarray(noise(9, 11, top=3))
CLEAR = {
    "rgb": file_of(RGB, transparency=(200, 0, 0)),
    "grey": file_of(GREY, transparency=1),
    "grey and alpha": file_of(Image.fromarray(noise(9, 11, 4), "RGBA").convert("LA")),
    "alpha": file_of(Image.fromarray(noise(9, 11, 4), "RGBA")),
    "palette": file_of(RGB.quantize(4), transparency=1),
    "palette of alphas": file_of(RGB.quantize(4), transparency=bytes([0, 90, 255, 7])),
    "black and white": file_of(GREY.convert("1"), transparency=0),
}


@pytest.mark.parametrize("name", CLEAR)
def test_transparency_is_dropped_or_laid_on_white_down_to_the_tower(name):
    crop = Preprocess(9).crop
    for reading, white in (("clip", False), ("upright", True)):
        ours = crop(decode_image(CLEAR[name], name, reading))
        expected = crop(Image.fromarray(pillows(CLEAR[name], white=white)))
        np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize(
    ("values", "shift"),
    [
        (noise(5, 7, top=256, kind=np.int32), 0),
        (noise(5, 7, top=65_536, kind=np.int32), 8),
        (noise(5, 7, top=2**31, kind=np.int32), 23),
        (noise(5, 7, top=65_536, kind=np.uint16), 8),
        (noise(5, 7, top=256, kind=np.float32), 0),
    ],
)
def test_deep_tiffs_are_scaled_to_eight_bits(values, shift):
    data = file_of(Image.fromarray(values), "TIFF")
    expected = (values.astype(np.int64) >> shift).astype(np.uint8)
    for reading in ("clip", "upright"):
        found = np.asarray(decode_image(data, "deep", reading))
        np.testing.assert_array_equal(found, np.stack([expected] * 3, -1))
    if not shift:
        np.testing.assert_array_equal(found, pillows(data, white=False))


def test_floats_up_to_one_and_unsigned_numbers_of_32_bits():
    ramp = np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7)
    found = np.asarray(decode_image(file_of(Image.fromarray(ramp), "TIFF"), "ramp"))
    np.testing.assert_array_equal(found[..., 0], (ramp * 255.0).astype(np.uint8))
    high = np.array([[0, 2**31, 2**32 - 1]], np.uint32)
    data = file_of(Image.fromarray(high.view(np.int32)), "TIFF")
    data = data.replace(struct.pack("<HHII", 339, 3, 1, 2), struct.pack("<HHII", 339, 3, 1, 1))
    assert np.asarray(decode_image(data, "high"))[0, :, 0].tolist() == [0, 128, 255]


def test_sixteen_bit_grey_with_a_clear_value_is_white_there():
    image = Image.fromarray(np.array([[0, 9000, 65_535]], np.uint16))
    header = struct.pack(">H", 9000)
    chunk = (
        struct.pack(">I", 2) + b"tRNS" + header + struct.pack(">I", zlib.crc32(b"tRNS" + header))
    )
    data = file_of(image)
    place = data.index(b"IDAT") - 4
    data = data[:place] + chunk + data[place:]
    assert np.asarray(decode_image(data, "x", "upright"))[0, :, 0].tolist() == [0, 255, 255]
    assert np.asarray(decode_image(data, "x", "clip"))[0, :, 0].tolist() == [0, 35, 255]


def test_a_picture_in_memory_is_read_as_its_file_is(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    files = {**CLEAR, "turned": file_of(Image.fromarray(noise(20, 40, 3)), exif=turned)}
    files["deep"] = file_of(Image.fromarray(noise(30, 20, top=65_536, kind=np.uint16)))
    files["tiff"] = file_of(Image.fromarray(noise(30, 20, kind=np.int32)), "TIFF")
    paths = []
    for name, data in files.items():
        paths.append(str(tmp_path / f"{name}.png"))
        (tmp_path / f"{name}.png").write_bytes(data)

    def features(source):
        return np.concatenate(
            [part.features for part in encode_pictures(source, load_clip("mini"))]
        )

    expected = features(picture_source(paths))
    assert len(expected) == len(files)
    opened = [Image.open(path) for path in paths]
    for other in (opened, list(files.values()), [paths[0], *opened[1:]]):
        np.testing.assert_array_equal(features(loaded_source(other)), expected)
    arrays = [
        np.asarray(opened[paths.index(str(tmp_path / f"{name}.png"))])
        for name in ("alpha", "deep", "tiff")
    ]
    rows = [list(files).index(name) for name in ("alpha", "deep", "tiff")]
    np.testing.assert_array_equal(features(loaded_source(arrays)), expected[rows])


# --- shapes -------------------------------------------------------------------------------------


def whole(image, size):
    """CLIP's own pipeline: resize the shortest edge, then cut the centre."""
    width, height = (side * size // min(image.size) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(
        image.resize((width, height), Image.Resampling.BICUBIC).crop(
            (left, top, left + size, top + size)
        )
    )


@pytest.mark.parametrize("shape", [(31, 97, 3), (300, 7, 3), (1, 64, 3), (320, 5, 3)])
def test_ordinary_shapes_have_clips_pixels_to_the_bit(shape):
    image = Image.fromarray(noise(*shape))
    np.testing.assert_array_equal(Preprocess(32).crop(image), whole(image, 32))


@pytest.mark.parametrize("shape", [(1, 3001, 3), (3000, 2, 3), (7, 900, 3), (6000, 70, 3)])
def test_long_shapes_have_them_to_a_rounding(shape):
    waves = np.sin(np.arange(shape[0])[:, None] / 9) + np.cos(np.arange(shape[1])[None] / 7)
    bands = [waves * scale + 128 for scale in (60, 30, 9)]
    image = Image.fromarray(np.stack(bands, -1).astype(np.uint8))
    ours = Preprocess(32).crop(image).astype(int)
    assert abs(ours - whole(image, 32)).max() <= 1


LIMITED = """
import sys
from pathlib import Path
sys.path.append(sys.argv[2])
from memory import peak_kib
from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.data.pictures import read_image
before = peak_kib()
print(Preprocess(224).crop(read_image(Path(sys.argv[1]), "x")).shape)
assert peak_kib() - before < 100_000, "KiB"
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is counted in other units")
def test_the_longest_jpeg_needs_little_memory(tmp_path):
    Image.new("RGB", (1, 65_500), "red").save(tmp_path / "long.jpg")
    run = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path / "long.jpg"), SUPPORT],
        capture_output=True,
        text=True,
    )
    assert (run.returncode, run.stdout) == (0, "(224, 224, 3)\n"), run.stderr


def endless(width, height):
    """A PNG of any size in few bytes: rows of zeros."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head)
    return start + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def test_a_side_beyond_the_limit_is_named_and_costs_one_picture(tmp_path):
    (tmp_path / "long.png").write_bytes(endless(1, 80_000_000))
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    keys = [str(tmp_path / name) for name in ("long.png", "good.png")]
    chunk = make_decoder(picture_source(keys), Preprocess(8), 1, 0)(range(2))
    assert len(chunk.pixels) == 1
    ((row, reason),) = chunk.lost
    assert row == 0
    assert reason == f"{keys[0]}: 1 x 80000000 is over the limit of 65535 pixels for a side"


@pytest.mark.parametrize("error", [OverflowError("too far"), MemoryError(), ZeroDivisionError()])
def test_whatever_one_picture_raises_costs_that_picture_only(error):
    class Bad(Preprocess):
        def crop(self, image):
            if image.size == (3, 3):
                raise error
            return super().crop(image)

    pictures = [Image.new("RGB", (side, side)) for side in (9, 3, 8)]
    chunk = make_decoder(loaded_source(pictures), Bad(8), 2, 0)(range(3))
    assert len(chunk.pixels) == 2
    assert chunk.lost == ((1, f"1: {str(error) or type(error).__name__}"),)


# --- files that are no pictures -----------------------------------------------------------------

AUDITED = """
import contextlib, sys, warnings
from pathlib import Path
from PIL import Image
started = []
sys.addaudithook(lambda event, _: started.append(event) if event in {
    "subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.startfile"} else 0)
from fsclip_jax.data.pictures import read_image
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.export.predictor import read_picture
about = {"image_size": 8, "fit": "crop", "resample": "bicubic", "odd_margin": "floor"}
path = sys.argv[1]
for read in (lambda: read_image(Path(path), "x"), lambda: read_picture(path, about)):
    try:
        read()
    except Exception as error:
        print(type(error).__name__)
assert not started, started
with contextlib.suppress(Exception):
    Image.open(path).load()
assert started, "the file no longer makes Pillow start a program: this test proves nothing"
"""
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


def test_no_program_is_started_for_an_eps_in_disguise(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(EPS)
    run = subprocess.run(
        [sys.executable, "-c", AUDITED, str(tmp_path / "photo.jpg")], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "UnreadableImage\nUnidentifiedImageError\n"


@pytest.mark.parametrize("kind", ["PPM", "TGA", "PCX", "ICO", "JPEG2000", "SGI"])
def test_other_formats_of_pillow_are_not_opened(kind):
    with pytest.raises(UnreadableImage, match="no picture: none of PNG, JPEG"):
        decode_image(file_of(Image.new("RGB", (16, 16)), kind), "x")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF"])
def test_the_promised_formats_are(kind):
    assert decode_image(file_of(Image.new("RGB", (16, 9)), kind), "x").size == (16, 9)


@pytest.mark.parametrize(
    ("kind", "options"),
    [("TIFF", {}), ("TIFF", {"compression": "jpeg"}), ("MPO", {}), ("AVIF", {}), ("WEBP", {})],
)
def test_of_several_pages_the_first_is_taken(kind, options):
    pages = [Image.new("RGB", (16, 9), colour) for colour in ("red", "blue")]
    data = file_of(pages[0], kind, save_all=True, append_images=pages[1:], **options)
    assert Image.open(io.BytesIO(data)).n_frames == 2
    red, _, blue = decode_image(data, "x").getpixel((8, 4))
    assert red > 240 > 15 > blue


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices are files on POSIX only")
def test_what_is_no_regular_file_is_named_and_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.jpg"))
        for name, reason in (
            ("pipe", "not a regular file"),
            ("zero", "not a regular file"),
            ("socket", "not a regular file"),
            ("folder", "Is a directory"),
        ):
            with pytest.raises(UnreadableImage, match=reason):
                read_image(tmp_path / f"{name}.jpg", name)
