"""Picture files of every kind: read as CLIP's own pipeline reads them, or upright and on white."""

import io
import os
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image
from replicas import encoded, picture

from fsclip_jax.clip.preprocess import Preprocess
from fsclip_jax.data.pictures import FileLoader, decode_image, read_image
from fsclip_jax.data.registry import open_source
from fsclip_jax.data.source import UnreadableImage

BOTH = pytest.mark.parametrize("reading", ["clip", "upright"])


def file_of(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def as_clip(data):
    """What CLIP's pipeline does: open and convert, nothing else."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def noise(mode, size=(13, 11), seed=0):
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], bands) if bands > 1 else (size[1], size[0])
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Image.frombytes(mode, size, pixels.tobytes())


def palette(transparency):
    """Noise in four colours; the transparency is one index or a table."""
    pixels = np.random.default_rng(1).integers(0, 4, (11, 13), np.uint8)
    image = Image.frombytes("P", (13, 11), pixels.tobytes())
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200, 9, 9, 9])
    return file_of(image, "PNG", **({} if transparency is None else {"transparency": transparency}))


FILES = {
    "jpeg": file_of(noise("RGB"), "JPEG"),
    "cmyk jpeg": file_of(noise("CMYK"), "JPEG"),
    "grey jpeg": file_of(noise("L"), "JPEG"),
    "png": file_of(noise("RGB"), "PNG"),
    "png with alpha": file_of(noise("RGBA"), "PNG"),
    "grey png with alpha": file_of(noise("LA"), "PNG"),
    "black and white": file_of(noise("L").convert("1"), "PNG"),
    "palette": palette(None),
    "palette, one colour clear": palette(1),
    "palette, table of alphas": palette(bytes([0, 128, 255, 7])),
    "gif": file_of(noise("L"), "GIF"),
    "animated gif": file_of(noise("L"), "GIF", save_all=True, append_images=[noise("L", seed=2)]),
    "webp": file_of(noise("RGB"), "WEBP", lossless=True),
    "animated webp": file_of(
        noise("RGB"), "WEBP", lossless=True, save_all=True, append_images=[noise("RGB", seed=2)]
    ),
    "bmp": file_of(noise("RGB"), "BMP"),
    "1x1": file_of(noise("RGB", (1, 1)), "PNG"),
    "1x400": file_of(noise("RGB", (1, 400)), "PNG"),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_read_as_clip_reads_it(name):
    found = decode_image(FILES[name], name)
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), as_clip(FILES[name]))


@pytest.mark.parametrize("name", FILES)
@BOTH
def test_every_format_goes_through_the_preprocessing(name, reading):
    pixels = np.asarray(Preprocess(32).crop(decode_image(FILES[name], name, reading)))
    assert pixels.shape == (32, 32, 3)


@pytest.mark.parametrize("name", [name for name in FILES if "alpha" in name or "clear" in name])
def test_upright_lays_transparency_on_white(name):
    image = Image.open(io.BytesIO(FILES[name])).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    expected = np.asarray(Image.alpha_composite(white, image).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(decode_image(FILES[name], name, "upright")), expected)


@BOTH
def test_sixteen_bits_are_scaled_to_eight(reading):
    deep = np.arange(0, 65536, 512, dtype=np.uint16).reshape(8, 16)
    found = np.asarray(decode_image(file_of(Image.fromarray(deep), "PNG"), "deep", reading))
    np.testing.assert_array_equal(found[..., 0], deep >> 8)
    np.testing.assert_array_equal(found[..., 0], found[..., 2])


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (40, 20), "blue")
    image.paste((255, 255, 0), (0, 0, 20, 20))  # yellow on the left
    return file_of(image, "PNG", exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_clip_ignores_the_exif_orientation(orientation):
    found = decode_image(turned(orientation), "photo")
    assert found.size == (40, 20)
    assert found.getpixel((5, 10)) == (255, 255, 0)


def test_upright_applies_the_exif_orientation():
    found = decode_image(turned(6), "photo", "upright")
    assert found.size == (20, 40)
    assert found.getpixel((10, 5)) == (255, 255, 0)  # the left is the top now


@BOTH
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"no picture at all", "no picture: none of PNG, JPEG"),
        (file_of(noise("RGB", (90, 70)), "JPEG")[:4000], "truncated"),
        (file_of(noise("RGB", (90, 70)), "PNG")[:4000], "truncated"),
        (b"\xff\xd8\xff\xe0" + bytes(300), ""),
    ],
)
def test_broken_files_are_named_in_one_line(tmp_path, reading, data, reason):
    (tmp_path / "x.jpg").write_bytes(data)
    with pytest.raises(UnreadableImage) as caught:
        read_image(tmp_path / "x.jpg", "cat/x.jpg", reading)
    assert caught.value.key == "cat/x.jpg"
    assert reason in caught.value.reason
    assert "\n" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_missing_file_and_a_folder_in_place_of_one(tmp_path):
    (tmp_path / "b.jpg").mkdir()
    load = FileLoader(tmp_path, ("a.jpg", "b.jpg"))
    for index, reason in enumerate(("No such file", "Is a directory")):
        with pytest.raises(UnreadableImage, match=reason):
            load(index)


NAMES = (
    "кошка",
    "猫",
    "قط",
    "γάτα",
    "ねこ",
    "고양이",
    "कुत्ता",
    "l'été & co",
    "a b",
    "🐈",
    "cafe\u0301",
)


def test_names_in_any_alphabet(tmp_path):
    for name in NAMES:
        picture(tmp_path / name / f"{name} 1.jpg")
    data = open_source(f"folder:{tmp_path}")
    assert set(data.class_names) == set(NAMES)
    assert all(data.load(i).size == (9, 7) for i in range(len(data)))


@pytest.mark.skipif(os.name != "posix", reason="names that are no text exist on POSIX only")
def test_a_file_name_that_is_no_unicode(tmp_path):
    for name in (b"a", b"b"):
        folder = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(folder)
        with open(os.path.join(folder, b"caf\xe9.jpg"), "wb") as file:
            file.write(encoded())
    data = open_source(f"folder:{tmp_path}")
    assert data.load(0).size == (9, 7)
    assert data.version == open_source(f"folder:{tmp_path}").version


def test_a_loop_of_links(tmp_path):
    for name in ("a", "b"):
        picture(tmp_path / name / "1.jpg")
        (tmp_path / name / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "self.jpg").symlink_to("self.jpg")
    data = open_source(f"folder:{tmp_path}")
    assert data.keys == ("a/1.jpg", "b/1.jpg")


def test_a_class_folder_that_is_a_link(tmp_path):
    picture(tmp_path / "elsewhere" / "1.jpg")
    picture(tmp_path / "data" / "b" / "1.jpg")
    (tmp_path / "data" / "a").symlink_to(tmp_path / "elsewhere")
    assert open_source(f"folder:{tmp_path / 'data'}").keys == ("a/1.jpg", "b/1.jpg")
    shutil.rmtree(tmp_path / "elsewhere")  # now the link leads nowhere: it is no class
    picture(tmp_path / "data" / "c" / "1.jpg")
    assert open_source(f"folder:{tmp_path / 'data'}").class_names == ("b", "c")
