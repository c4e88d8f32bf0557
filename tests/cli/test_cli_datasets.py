"""`fsclip datasets`: the list, what is ready, and how to get the rest."""

import json

import pytest
from PIL import Image

from fsclip_jax.cli.main import main
from fsclip_jax.data.catalog import KNOWN_SETS
from fsclip_jax.data.names import class_names


@pytest.fixture(autouse=True)
def tfds_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path / "tfds"


@pytest.fixture
def root(tmp_path):
    """DTD is whole, EuroSAT lacks its split, the rest is not there."""
    picture = tmp_path / "data" / "dtd" / "images" / "banded" / "1.jpg"
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(picture)
    (tmp_path / "data" / "dtd" / "split_zhou_DescribableTextures.json").write_text("{}")
    (tmp_path / "data" / "eurosat" / "2750").mkdir(parents=True)
    return tmp_path / "data"


def prepared(folder, file_format):
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(json.dumps({"fileFormat": file_format}))


def listed(capsys, *flags):
    assert main(["datasets", *flags]) == 0
    lines = capsys.readouterr().out.split("\n\n")[0].splitlines()
    return {line.split()[0]: line.split(maxsplit=5) for line in lines}


def told(capsys, *words):
    """What is said, a command on one line."""
    assert main(["datasets", *words]) == 0
    return " ".join(capsys.readouterr().out.replace("\\\n", "").split())


def refused(capsys, *flags):
    assert main(["datasets", *flags]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_aligned_lines_where_nobody_watches(capsys):
    assert main(["datasets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line.isascii() for line in lines)
    assert len({line.rindex("-") for line in lines[1 : 1 + len(KNOWN_SETS)]}) == 1
    rows = listed(capsys)
    assert list(rows) == ["name", *(known.name for known in KNOWN_SETS)]
    assert rows["caltech101"][1:6] == ["100", "4128", "1649", "2465", "-"]
    assert {len(row) for row in rows.values()} == {6}


def test_what_is_ready_is_said(capsys, root, tfds_dir):
    prepared(tfds_dir / "eurosat" / "rgb" / "2.0.0", "array_record")
    prepared(tfds_dir / "caltech101" / "3.0.2", "tfrecord")
    rows = listed(capsys, "--root", str(root))
    assert rows["dtd"][5] == f"coop:dtd@{root}"
    assert "lacks split_zhou_EuroSAT.json; tfds:eurosat/rgb" in rows["eurosat"][5]
    assert "is prepared as tfrecord, not as array_record" in rows["caltech101"][5]
    assert rows["ucf101"][5] == "-"
    assert "tfds:eurosat/rgb" in listed(capsys, "--tfds-dir", str(tfds_dir))["eurosat"][5]


@pytest.mark.parametrize("known", KNOWN_SETS, ids=lambda known: known.name)
def test_everything_about_one(capsys, known):
    said = told(capsys, known.name)
    assert known.citation in said
    assert known.url in said
    if known.coop:
        assert f"ROOT/{known.coop.folder}" in said
        assert f"--data coop:{known.name}@ROOT" in said
    if known.tfds:
        assert (
            f"tfds build {known.tfds.spec}:{known.tfds.version} --file_format=array_record" in said
        )


def test_a_published_row_is_shown_with_its_commands(capsys):
    said = told(capsys, "eurosat")
    assert "zero_shot 37.52, tip_adapter 70.54, tip_adapter_f 84.54, gda 86.12" in said
    assert "--methods zero_shot tip_adapter tip_adapter_f gda" in said
    rows = [known.rn50 for known in KNOWN_SETS if known.rn50]
    assert all(known.coop and known.sizes[0] for known in KNOWN_SETS if known.rn50)
    means = [round(sum(column) / len(rows), 2) for column in zip(*rows, strict=True)]
    assert means == [58.89, 70.32, 75.83, 76.05]  # the means that the papers give


def test_the_names_of_the_classes(capsys):
    assert main(["datasets", "EuroSAT", "--classes"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "Annual Crop Land"


def test_wrong_input(capsys, tmp_path):
    assert "did you mean eurosat?" in refused(capsys, "eurosatt")
    assert "is no folder" in refused(capsys, "--root", str(tmp_path / "nowhere"))
    assert "needs the name" in refused(capsys, "--classes")


@pytest.mark.parametrize("known", KNOWN_SETS, ids=lambda known: known.name)
def test_the_table_holds_together(known):
    names = class_names(known)
    assert len(names) in (0, 1000 if known.names_of else known.classes)
    assert all(name == " ".join(name.split()) and "_" not in name for name in names)
    if known.name != "imagenet" and not known.names_of:
        assert len(set(names)) == len(names)
    assert known.coop or known.tfds
    assert all(template.count("{}") == 1 for template in known.ensemble)
