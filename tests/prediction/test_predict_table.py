import csv
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fsclip_jax.errors import UserError
from fsclip_jax.prediction.formats import columns, prediction_row
from fsclip_jax.prediction.table import PredictionTable, held, refuse_finished

NAMES = ["cat", "dog, big", 'the "third"']


def row(image, best=1):
    chances = np.full(3, 0.2)
    chances[best] = 0.6
    return prediction_row(image, chances, NAMES, 2, 0.7)


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_label_of_a_picture_of_none_of_the_classes_is_empty():
    chances = np.array([0.1, 0.5, 0.4])
    assert prediction_row("a", chances, NAMES, 3, 0.5)[1] == "dog, big"
    unsure = prediction_row("a", chances, NAMES, 3, 0.5, known=False)
    assert unsure[1] == ""
    # What it would have been is told all the same, in the order of probability.
    assert unsure[3:-1:2] == ["dog, big", 'the "third"', "cat"]
    assert unsure[4::2] == ["0.5000", "0.4000", "0.1000"]
    assert unsure[-1] == "0.5000"


def test_an_unfinished_table_of_an_earlier_version_is_refused(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("image,label,probability,class_1,probability_1\n1.png,cat,0.9,cat,0.9\n")
    path.with_name(".out.csv.unfinished").write_text('{"method": "gda", "safe": false}')
    with pytest.raises(UserError, match="other labelled pictures or settings"):
        PredictionTable(path, 1, {"method": "gda"})
    assert path.read_text().count("\n") == 2


def test_a_finished_table_is_not_touched(tmp_path):
    path = tmp_path / "out.csv"
    with PredictionTable(path, 2, {"a": 1}) as table:
        table.add([row("1.png")])
        table.finish()
    before = path.read_bytes()
    assert read(path) == [columns(2), row("1.png")]
    with pytest.raises(UserError, match="exists already"):
        refuse_finished(path)
    with pytest.raises(UserError, match="exists already"):
        PredictionTable(path, 2, {"a": 1})
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["out.csv"]


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=()), min_size=1),
        min_size=1,
        max_size=5,
        unique=True,
    ),
    cut=st.integers(0, 400),
    safe=st.booleans(),
)
@example(["a\r.jpg", "b\nc.jpg", "caf\udce9.jpg", "=1+1.jpg", "'=1.jpg", "\\x0d"], 150, True)
def test_a_table_cut_anywhere_is_continued_without_loss(tmp_path_factory, names, cut, safe):
    path = tmp_path_factory.mktemp("cut") / "out.csv"
    whole = path.with_name("whole.csv")
    for place in (path, whole):
        with PredictionTable(place, 2, {}, safe=safe) as table:
            table.add([row(name) for name in names])
    path.write_bytes(path.read_bytes()[:cut])
    with PredictionTable(path, 2, {}, safe=safe) as table:
        done = table.done
        assert done <= set(names)
        table.add([row(name) for name in names if name not in done])
        table.finish()
    assert path.read_bytes() == whole.read_bytes()


def test_another_classifier_does_not_continue_a_table(tmp_path):
    path = tmp_path / "out.csv"
    with PredictionTable(path, 2, {"method": "gda"}) as table:
        table.add([row("1.png")])
    with pytest.raises(UserError, match="other labelled pictures or settings"):
        PredictionTable(path, 2, {"method": "ridge"})
    with PredictionTable(path, 2, {"method": "gda"}) as table:
        assert table.done == {"1.png"}


def test_a_second_process_is_refused_and_a_dead_one_forgotten(tmp_path):
    path = tmp_path / "out.csv"
    code = (
        "import sys, time; from pathlib import Path; "
        "from fsclip_jax.prediction.table import held\n"
        "with held(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"another run .* is writing out\.csv"), held(path):
            pass
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    with held(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_names_are_utf8_lines_and_never_formulas_where_that_is_asked_for(tmp_path):
    names = ["=cmd|'/C calc'!A0", "@SUM(1)\r", "-1+\x1b[31m\udce9"]
    images = ["+1.jpg", "b\rc\n.jpg", "'=x.jpg"]
    for safe in (False, True):
        path = tmp_path / f"{safe}.csv"
        with PredictionTable(path, 3, {}, safe=safe) as table:
            table.add([prediction_row(each, np.eye(3)[1], names, 3, 0.5) for each in images])
            table.finish()
        raw = path.read_bytes()
        assert raw.decode().replace("\n", "").isprintable()
        assert len(raw.splitlines()) == len(read(path)) == 4
        cells = [cell for line in read(path)[1:] for cell in line]
        assert any(cell[0] in "=+-@" for cell in cells) is not safe
    assert [line[0] for line in read(path)[1:]] == ["'+1.jpg", "b\\x0dc\\x0a.jpg", "''=x.jpg"]
    assert read(path)[1][1] == "'@SUM(1)\\x0d"
