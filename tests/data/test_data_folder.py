import contextlib
import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from replicas import images_per_class

from fsclip_jax.data.folder import EXTENSIONS, list_pictures, open_folder
from fsclip_jax.data.left_out import count_kinds, passed_over, shown
from fsclip_jax.data.names import folder_classes, wordnet_names
from fsclip_jax.data.source import UnreadableImage
from fsclip_jax.data.splits import SPLITS, split_by_hash
from fsclip_jax.errors import UserError


def picture(path, color=(200, 10, 30), size=(8, 6), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **options)
    return path


@pytest.fixture
def pets(tmp_path):
    for name, count in (("Cat", 4), ("dog_2", 3), ("dog_10", 5)):
        for i in range(count):
            picture(tmp_path / name / f"{i}.png", color=(i, 0, 0))
    return tmp_path


def refused(path):
    with pytest.raises(UserError) as caught:
        open_folder(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def load_one(folder):
    """Open a two-class folder and read the one image of class ``a``."""
    picture(folder / "b" / "1.png")
    return open_folder(folder).load(0)


def test_classes_come_in_natural_order_with_spaces(pets):
    data = open_folder(pets)
    assert data.class_names == ("Cat", "dog 2", "dog 10")
    assert images_per_class(data).tolist() == [4, 3, 5]
    assert data.keys[:5] == ("Cat/0.png", "Cat/1.png", "Cat/2.png", "Cat/3.png", "dog_2/0.png")
    assert data.spec == f"folder:{pets}"
    assert data.domains is None


def test_pictures_are_the_ones_that_the_keys_name(pets):
    data = open_folder(pets)
    for i, key in enumerate(data.keys):
        assert data.load(i).getpixel((0, 0)) == (int(key.split("/")[1][:-4]), 0, 0)


def test_without_split_folders_each_class_is_split_by_hash(pets):
    data = open_folder(pets)
    assert np.array_equal(data.splits, split_by_hash(data.keys, data.labels))
    assert set(data.splits) == {0, 1, 2}


def test_split_folders_are_the_splits(tmp_path):
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        for name in ("a", "b"):
            for i in range(count):
                picture(tmp_path / split / name / f"{i}.jpg")
    data = open_folder(tmp_path)
    assert data.class_names == ("a", "b")
    assert all(
        key.split("/")[0] == SPLITS[s] for key, s in zip(data.keys, data.splits, strict=True)
    )
    assert [int(images_per_class(data, split).sum()) for split in SPLITS] == [6, 2, 4]


def test_a_class_may_be_missing_from_one_split(tmp_path):
    for key in ("train/a/1", "train/b/1", "test/a/1"):
        picture(tmp_path / f"{key}.png")
    data = open_folder(tmp_path)
    assert images_per_class(data, "test").tolist() == [1, 0]


def test_a_class_may_be_called_train(tmp_path):
    for name in ("train", "car"):
        picture(tmp_path / name / "1.png")
    assert open_folder(tmp_path).class_names == ("car", "train")


def test_every_extension_in_either_case_is_read(tmp_path):
    kinds = {".pjp": "JPEG", ".pjpeg": "JPEG", ".jif": "JPEG", ".jfi": "JPEG"}
    for extension in EXTENSIONS:
        kind = kinds.get(extension)  # Pillow knows the others by their endings
        picture(tmp_path / "a" / f"low{extension}", format=kind)
        picture(tmp_path / "b" / f"UP{extension.upper()}", format=kind)
    data = open_folder(tmp_path)
    assert images_per_class(data).tolist() == [len(EXTENSIONS)] * 2
    for i in range(len(data)):
        assert data.load(i).mode == "RGB"
        assert data.load(i).size == (8, 6)


def test_hidden_files_other_files_and_deeper_folders_are_ignored(pets):
    before = open_folder(pets)
    (pets / "Cat" / ".hidden.png").write_bytes(b"x")
    (pets / "Cat" / "notes.txt").write_text("x")
    (pets / ".git").mkdir()
    (pets / "README.md").write_text("x")
    picture(pets / "Cat" / "deeper" / "9.png")
    picture(pets / "loose.png")
    (pets / "Cat" / "folder.png").mkdir()
    after = open_folder(pets)
    assert after.keys == before.keys
    assert after.version == before.version


def test_the_version_follows_names_and_sizes_only(pets):
    first = open_folder(pets).version
    os.utime(pets / "Cat" / "0.png", (1, 1))
    assert open_folder(pets).version == first
    picture(pets / "Cat" / "0.png", size=(30, 31))
    grown = open_folder(pets).version
    assert grown != first
    (pets / "Cat" / "0.png").rename(pets / "Cat" / "zero.png")
    renamed = open_folder(pets).version
    assert renamed != grown
    picture(pets / "Cat" / "new.png")
    assert open_folder(pets).version != renamed


# --- folders as they are found --------------------------------------------------------------


@pytest.mark.parametrize(
    "called",
    [
        ("train", "valid", "test"),
        ("Train", "Validation", "Test"),
        ("training", "dev", "testing"),
        ("training_set", "val_set", "test_set"),
        ("TRAIN", "VAL", "TEST"),
        ("train-images", "validation data", "testset"),
    ],
)
def test_splits_by_any_of_their_names(tmp_path, called):
    for name in called:
        for label in ("cat", "dog"):
            picture(tmp_path / name / label / "1.png")
    picture(tmp_path / "__MACOSX" / "train" / "1.png")
    data = open_folder(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert [key.split("/")[0] for key in data.keys[:3]] == sorted(called, key=str.lower)
    found = {key.split("/")[0]: SPLITS[s] for key, s in zip(data.keys, data.splits, strict=True)}
    assert found == dict(zip(called, SPLITS, strict=True))
    assert data.notes == ()


def named(folders):
    return folder_classes(folders)[0]


def test_folder_names_are_read_as_words():
    assert named(("n02104029", "n01440764")) == ("Kuvasz", "tench")
    assert named(("n02085620-Chihuahua", "n02085782-Japanese_spaniel")) == (
        "Chihuahua",
        "Japanese spaniel",
    )
    assert named(("001.Black_footed_Albatross", "017.Cardinal")) == (
        "Black footed Albatross",
        "Cardinal",
    )
    assert named(("0_cat", "1_dog")) == ("cat", "dog")
    assert named(("1 - cat", "2 - dog")) == ("cat", "dog")
    # Numbers that are part of the names stay.
    assert named(("3_series", "5_series")) == ("3 series", "5 series")
    assert named(("2012_Acura", "2013_BMW")) == ("2012 Acura", "2013 BMW")
    assert named(("7up", "cola")) == ("7up", "cola")
    assert named(("0", "1")) == ("0", "1")
    assert named(("_hot__dog_", "cat")) == ("hot dog", "cat")


@pytest.mark.parametrize(
    ("folders", "names", "note"),
    [
        (("Cat", "cat"), ("Cat", "cat"), "read alike, merge them if they are one: Cat, cat"),
        (("hot_dog", "hot__dog"), ("hot_dog", "hot__dog"), "hot_dog, hot__dog"),
        (("n03773504", "n04008634"), ("missile", "missile"), "n03773504, n04008634"),
        (("_", "cat"), ("_", "cat"), "without a word for the text tower: _"),
        (("n02104029", "n99999999"), ("Kuvasz", "n99999999"), "stay ids: n99999999"),
    ],
)
def test_names_that_say_little_are_noted_once(folders, names, note):
    found, notes = folder_classes(folders)
    assert found == names
    assert len(notes) == 1
    assert notes[0].endswith(note)


def test_every_word_of_imagenet_is_found_by_its_id():
    assert named(tuple(wordnet_names())) == tuple(wordnet_names().values())


def test_what_is_passed_over_is_counted_and_named(pets):
    picture(pets / "loose.png")
    picture(pets / "Cat" / "deeper" / "1.png")
    for name in ("photo.raw", "clip.MOV", "other.mov", "noending"):
        (pets / "Cat" / name).write_bytes(b"x")
    (pets / "loose.mov").write_bytes(b"x")
    (pets / "Cat" / "Thumbs.db").write_bytes(b"x")
    os.mkfifo(pets / "Cat" / "pipe.jpg")
    data = open_folder(pets)
    assert data.left_out == {
        ".mov": 3,
        ".raw": 1,
        "files without an ending": 1,
        "folders within class folders": 1,
        "names that lead to no regular file": 1,
        "pictures outside of the class folders": 1,
    }
    notes = [note.removeprefix(f"folder:{pets}: passed over ") for note in data.notes]
    assert sorted(notes) == [
        "1 folders within class folders: Cat/deeper",
        "1 names that lead to no regular file: Cat/pipe.jpg",
        "1 pictures outside of the class folders: loose.png",
        (
            "5 files by their ending, 3 .mov, 1 .raw, 1 file without an ending: Cat/clip.MOV, "
            "Cat/noending, Cat/other.mov, Cat/photo.raw, loose.mov"
        ),
    ]


JUNK = (
    *("__MACOSX", ".ipynb_checkpoints", "@eaDir", ".git", "$RECYCLE.BIN", "lost+found", ".Trash-0"),
    *("System Volume Information", ".DS_Store", "Thumbs.db", "#recycle", "Icon\r"),
)


@pytest.mark.parametrize("junk", JUNK)
def test_what_systems_leave_is_neither_class_nor_picture(pets, junk):
    before, listed = open_folder(pets), list_pictures([pets])
    picture(pets / junk / "1.png")
    picture(pets / "Cat" / junk / "1.png")
    picture(pets / "Cat" / "._1.png")
    after = open_folder(pets)
    assert (after.keys, after.class_names, after.notes) == (before.keys, before.class_names, ())
    assert list_pictures([pets]) == listed


def test_links_that_lead_nowhere_or_in_circles_are_named(pets):
    before = open_folder(pets)
    for name in ("nowhere", "Cat/nowhere.png", "Cat/circle.png"):
        (pets / name).symlink_to(pets / name if "circle" in name else "gone")
    (pets / "Cat" / "up").symlink_to(pets)
    after = open_folder(pets)
    assert (after.keys, after.class_names) == (before.keys, before.class_names)
    said = " ".join(after.notes)
    assert "2 names that lead to no regular file: Cat/circle.png, Cat/nowhere.png" in said
    assert "1 folders within class folders: Cat/up" in said
    passed = {}
    # What is a picture by its name is missed when it is read, and named then.
    assert set(list_pictures([pets], passed)) - {str(pets / key) for key in before.keys} == {
        str(pets / "Cat" / "circle.png"),
        str(pets / "Cat" / "nowhere.png"),
    }
    assert any("1 links to folders" in note for note in passed_over(passed))


def test_a_folder_that_vanishes_or_fails_is_told_and_a_file_is_missed_later(pets, monkeypatch):
    scan = os.scandir

    def gone(path):
        if str(path).endswith("dog_2"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return scan(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", gone)
        assert "dog_2: No such file or directory" in refused(pets)

    def vanish(path):
        with scan(path) as entries:
            found = list(entries)
        if str(path).endswith("Cat"):
            (pets / "Cat" / "0.png").unlink()
        return contextlib.nullcontext(found)

    monkeypatch.setattr(os, "scandir", vanish)
    data = open_folder(pets)
    monkeypatch.undo()
    with pytest.raises(UnreadableImage, match="Cat/0"):
        data.load(data.keys.index("Cat/0.png"))


def test_what_is_passed_over_below_folders_is_counted_and_named(tmp_path, monkeypatch):
    picture(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.mov").write_bytes(b"x")
    picture(tmp_path / "locked" / "1.png")
    picture(tmp_path / "__MACOSX" / "1.png")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    scan = os.scandir

    def scandir(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scandir)
    passed = {}
    twice = [tmp_path, tmp_path / "a"]  # what is found again is counted once
    assert list_pictures(twice, passed) == (str(tmp_path / "a" / "1.png"),)
    assert count_kinds(passed) == {".mov": 1, "links to folders": 1, "unreadable folders": 1}
    assert shown(count_kinds(passed)) == "1 .mov, 1 link to a folder, 1 unreadable folder"
    notes = list(passed_over(passed))
    assert [note.split(":")[0] for note in notes] == [
        "passed over 1 links to folders",
        "passed over 1 files by their ending, 1 .mov",
        "passed over 1 unreadable folders",
    ]
    assert "locked (Permission denied)" in notes[2]
    with pytest.raises(UserError, match="no permission"):
        open_folder(tmp_path)
    with pytest.raises(UserError, match=r"no pictures \(.* 1 unreadable folders"):
        list_pictures([tmp_path / "locked"])


# --- folders that are not as expected -------------------------------------------------------


def test_a_missing_folder(tmp_path):
    message = refused(tmp_path / "nowhere")
    assert "no such folder" in message
    assert "DIR/CLASS" in message


def test_a_file_instead_of_a_folder(tmp_path):
    assert "a file, not a folder" in refused(picture(tmp_path / "1.png"))


def test_an_empty_folder(tmp_path):
    message = refused(tmp_path)
    assert "holds no pictures" in message
    assert "DIR/CLASS" in message


def test_pictures_without_class_folders(tmp_path):
    for i in range(3):
        picture(tmp_path / f"{i}.png")
    message = refused(tmp_path)
    assert "3 pictures but no sub-folders" in message
    assert "DIR/CLASS" in message


def test_one_class_only(tmp_path):
    picture(tmp_path / "cat" / "1.png")
    assert "one class only, cat" in refused(tmp_path)


def test_split_folders_without_classes(tmp_path):
    picture(tmp_path / "train" / "1.png")
    picture(tmp_path / "test" / "1.png")
    assert "split folders without classes" in refused(tmp_path)


def test_an_empty_class_is_named(pets):
    (pets / "fish").mkdir()
    (pets / "fish" / "notes.txt").write_text("x")
    message = refused(pets)
    assert "fish" in message
    assert "Cat" not in message
    assert "jpg" in message


def test_two_classes_of_one_name_stay_apart_with_a_note(pets):
    picture(pets / "dog 2" / "1.png")
    data = open_folder(pets)
    assert data.class_names == ("Cat", "dog 2", "dog_2", "dog 10")
    assert images_per_class(data).tolist() == [4, 1, 3, 5]
    (note,) = data.notes
    assert note.endswith("class folders that read alike, merge them if they are one: dog 2, dog_2")


def test_class_folders_beside_split_folders(tmp_path):
    for key in ("train/a/1", "test/a/1", "extra/a/1"):
        picture(tmp_path / f"{key}.png")
    assert "extra lies beside" in refused(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission(pets):
    (pets / "Cat").chmod(0)
    try:
        assert "no permission" in refused(pets)
    finally:
        (pets / "Cat").chmod(0o755)


# --- pictures that are not as expected ------------------------------------------------------


def broken(folder, data, name="1.png"):
    """Put bytes where the one image of class ``a`` belongs, and return the error."""
    path = folder / "a" / name
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(UnreadableImage) as caught:
        load_one(folder)
    assert caught.value.key == f"a/{name}"
    assert str(folder) not in str(caught.value)
    assert "\n" not in caught.value.reason
    return caught.value.reason


def encoded(format_, size=(64, 64), **options):
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, format_, **options)
    return stream.getvalue()


def test_an_empty_file(tmp_path):
    assert broken(tmp_path, b"") == "the file is empty"


@pytest.mark.parametrize("data", [b"hello", b"\x89PNG\r\n\x1a\n", b"\0" * 1000])
def test_a_file_that_is_no_picture(tmp_path, data):
    broken(tmp_path, data)


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("part", [0.05, 0.5, 0.9])
def test_a_truncated_file(tmp_path, format_, part):
    data = encoded(format_)
    broken(tmp_path, data[: int(len(data) * part)], f"1.{format_.lower()}")


def test_a_png_with_a_bad_checksum(tmp_path):
    data = bytearray(encoded("PNG"))
    data[60] ^= 0xFF
    broken(tmp_path, bytes(data))


def test_a_decompression_bomb(tmp_path):
    side = 50_000  # 2.5 gigapixels in a few bytes
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    broken(tmp_path, data)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_picture_over_the_limit_is_refused_where_pillow_only_warns(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    assert broken(tmp_path, encoded("PNG")) == "64 x 64 is over the limit of 3000 pixels"


def test_a_file_that_vanished(tmp_path):
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "b" / "1.png")
    data = open_folder(tmp_path)
    (tmp_path / "a" / "1.png").unlink()
    with pytest.raises(UnreadableImage, match=r"a/1\.png"):
        data.load(0)


def test_one_bad_picture_leaves_the_others_readable(pets):
    (pets / "Cat" / "1.png").write_bytes(b"")
    data = open_folder(pets)
    assert data.load(0).size == (8, 6)
    with pytest.raises(UnreadableImage):
        data.load(1)


# --- how pictures are read --------------------------------------------------------------------


def test_the_exif_orientation_is_applied(tmp_path):
    path = tmp_path / "a" / "1.jpg"
    path.parent.mkdir()
    image = Image.new("RGB", (40, 20), "blue")
    image.paste((255, 255, 0), (0, 0, 20, 20))  # yellow on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    image.save(path, exif=exif, quality=95)
    upright = load_one(tmp_path)
    assert upright.size == (20, 40)
    red, _, blue = upright.getpixel((10, 5))
    assert red > 200  # what lay on the left is now at the top
    assert blue < 60


# Pillow itself tells of the broken block when it opens the file; the picture is fine.
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")
def test_broken_exif_data_leaves_the_picture_as_it_is(tmp_path):
    picture(tmp_path / "a" / "1.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12")
    assert load_one(tmp_path).size == (8, 6)


@pytest.mark.parametrize(
    ("mode", "color"),
    [("RGBA", (0, 0, 0, 0)), ("LA", (0, 0)), ("RGBA", (255, 255, 255, 255))],
)
def test_transparency_is_laid_on_white(tmp_path, mode, color):
    picture(tmp_path / "a" / "1.png", color=color, mode=mode)
    assert load_one(tmp_path).getpixel((3, 3)) == (255, 255, 255)


def test_half_transparency_mixes_with_white(tmp_path):
    picture(tmp_path / "a" / "1.png", color=(0, 0, 0, 128), mode="RGBA")
    assert load_one(tmp_path).getpixel((3, 3)) == (127, 127, 127)


def test_a_palette_keeps_its_colors_and_its_transparency(tmp_path):
    path = tmp_path / "a" / "1.gif"
    path.parent.mkdir()
    image = Image.new("P", (4, 2), 0)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.paste(1, (0, 0, 2, 2))
    image.save(path, transparency=0)
    read = load_one(tmp_path)
    assert read.getpixel((0, 0)) == (10, 200, 30)
    assert read.getpixel((3, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_is_scaled(tmp_path):
    path = tmp_path / "a" / "1.png"
    path.parent.mkdir()
    Image.fromarray(np.full((4, 4), 0x80FF, np.uint16)).save(path)
    assert load_one(tmp_path).getpixel((0, 0)) == (128, 128, 128)


@pytest.mark.parametrize("mode", ["L", "1", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    picture(tmp_path / "a" / "1.jpg", color=0, mode=mode)
    assert load_one(tmp_path).mode == "RGB"


def test_of_an_animation_the_first_frame_is_read(tmp_path):
    path = tmp_path / "a" / "1.gif"
    path.parent.mkdir()
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert load_one(tmp_path).getpixel((0, 0)) == (255, 0, 0)
