"""Two processes share the cells of a suite, and give the numbers of one."""

import json
import signal
import time

import pytest
from folders import content_of_tree
from several import ends, start, start_two
from synthetic_bank import synthetic_bank

METHODS = ("zero_shot", "prototype", "tip_adapter", "cocoop")
"""The last does not apply to a bank: such a cell is a word too."""

CELLS = 2 * 4 * 2


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("banks")
    for seed, name in enumerate(("cats", "dogs")):
        synthetic_bank(folder / name, seed=seed, spec=name)
    data = [f"bank:{folder / name}" for name in ("cats", "dogs")]
    return ["--data", *data, "--methods", *METHODS, "--shots", "1", "2"]


@pytest.fixture(scope="module")
def whole(words, tmp_path_factory):
    """What one process of one device makes, without its times."""
    out = tmp_path_factory.mktemp("whole") / "suite"
    (code,), told = ends([start("suite", *words, "--out", out, devices=1)])
    assert code == 3, told  # cells that cannot be done are failures, and the rest is done
    assert f"{CELLS} cells: {CELLS - 4} done" in told[0][0]
    return content_of_tree(out)


def reports(out):
    return sorted(out.rglob("report.json"))


@pytest.mark.slow
def test_two_processes_give_the_cells_of_one(words, whole, tmp_path):
    codes, told = ends(start_two("suite", *words, "--out", tmp_path))
    assert codes == [3, 0], told
    assert told[1] == ("", ""), "process 0 says it for all"
    assert content_of_tree(tmp_path) == whole
    places = [cell["folder"] for cell in json.loads((tmp_path / "suite.json").read_text())["cells"]]
    assert len([place for place in places if place]) == len(reports(tmp_path)) == CELLS - 4


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_ends_the_other_in_a_line_and_one_goes_on(words, whole, tmp_path, victim):
    processes = start_two("suite", *words, "--out", tmp_path)
    deadline = time.monotonic() + 200
    while len(reports(tmp_path)) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    processes[victim].send_signal(signal.SIGKILL)
    codes, told = ends(processes, 60)
    assert codes[1 - victim] == 2, told
    assert told[1 - victim][1].splitlines()[-1] == (
        f"fsclip: error: stopped, for another process did: process {victim} was killed, or the "
        "connection to it was lost"
    )
    assert "Traceback" not in told[1 - victim][1]
    before = len(reports(tmp_path))
    assert 3 <= before < CELLS - 4
    (code,), told = ends([start("suite", *words, "--out", tmp_path, devices=1)])
    assert code == 3, told
    assert f"({before} by an earlier run)" in told[0][0]
    assert content_of_tree(tmp_path) == whole


def test_flags_that_do_not_fit_are_a_line(words, tmp_path):
    (code,), told = ends([start("suite", *words, "--out", tmp_path, "--process", "1")])
    assert code == 2
    assert told[0][1] == (
        "fsclip: error: --processes and --process need --coordinator HOST:PORT (or auto)\n"
    )
