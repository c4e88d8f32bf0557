"""The tutorials as they are stored: run whole and in order, small, of no machine in particular."""

import nbformat
import pytest
import run_tutorials

FILES = sorted(run_tutorials.TUTORIALS.glob("*.ipynb"))
IDS = [file.stem for file in FILES]


def code_cells(file):
    return [c for c in nbformat.read(file, as_version=4).cells if c.cell_type == "code"]


def test_there_are_three():
    assert len(FILES) == 3


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_every_cell_was_run_in_order_and_none_failed(file):
    cells = code_cells(file)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds <= {"stream", "execute_result", "display_data"}


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_it_is_small_and_names_no_machine(file):
    text = file.read_text("utf-8")
    assert len(text) < 200_000
    for slip in ("/tmp/", "/home/", "/root/", "/work/", "/Users/", "\\u001b", "images/s", "ms\\n"):
        assert slip not in text, slip


def notebook(source, printed, count=1):
    output = nbformat.v4.new_output("stream", name="stdout", text=printed)
    cell = nbformat.v4.new_code_cell(source, outputs=[output], execution_count=count)
    return nbformat.v4.new_notebook(cells=[cell])


@pytest.mark.parametrize(
    ("source", "printed", "count", "stale"),
    [
        ("f()", "right: 81.67 %, in 2.0 s\n", 1, False),
        ("f()", "right:  7.3 %, in 12 s\n", 1, False),
        ("f()", "wrong: 81.7 %, in 2.0 s\n", 1, True),
        ("g()", "right: 81.7 %, in 2.0 s\n", 1, True),
        ("f()", "right: 81.7 %, in 2.0 s\n", None, True),
    ],
)
def test_words_make_a_notebook_stale_and_last_digits_do_not(
    tmp_path, source, printed, count, stale
):
    file = tmp_path / "a.ipynb"
    nbformat.write(notebook(source, printed, count), file)
    made = notebook("f()", "right: 81.7 %, in 2.1 s\n")
    assert run_tutorials.stale(file, made) is stale


def test_what_is_said_of_progress_is_not_kept():
    def stream(name, text):
        return nbformat.v4.new_output("stream", name=name, text=text)

    told = [stream("stdout", "a"), stream("stderr", "50 %"), stream("stdout", "\x1b[1mb\x1b[0m")]
    assert [output.text for output in run_tutorials.joined(told)] == ["ab"]
