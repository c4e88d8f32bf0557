"""Run the tutorials, in order and in one folder, and keep what their cells print.

    python scripts/run_tutorials.py             writes the outputs anew
    python scripts/run_tutorials.py --check     exits with 1 where they are not as they would be
    python scripts/run_tutorials.py --in DIR    runs them there, not in a temporary folder

What commands say on the error stream (progress, by the clock) is not kept. Numbers may differ from
machine to machine in their last digits, and with them the sums of files, so a check looks at the
words between them.
"""

import argparse
import os
import re
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

TUTORIALS = Path(__file__).resolve().parents[1] / "docs" / "tutorials"
SECONDS = 300
NUMBER = re.compile(r"\b[0-9a-f]{12}\b|\d+(?:[.,]\d+)*|\s+")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def executed(file: Path, folder: Path) -> NotebookNode:
    """Return a notebook with the outputs that its cells have now, run in a folder."""
    notebook = nbformat.read(file, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=SECONDS, resources=resources, kernel_name="python3").execute()
    notebook.metadata = nbformat.from_dict(METADATA)
    for number, cell in enumerate(notebook.cells, 1):
        cell.id, cell.metadata = f"cell-{number}", nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = joined(cell.outputs)
    return notebook


def joined(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return outputs without the error stream, what is printed in one piece."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text if output.name == "stdout" else ""
        elif output.get("name") != "stderr":
            kept.append(output)
    for output in kept:
        if output.output_type == "stream":
            output.text = COLOUR.sub("", output.text)
    return kept


def words(notebook: NotebookNode) -> list[str]:
    """Return what each code cell is and printed, but for numbers and the width of columns."""
    shown = [
        cell.source + "".join(text_of(output) for output in cell.outputs)
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]
    return [" ".join(NUMBER.sub(" ", text).split()) for text in shown]


def text_of(output: NotebookNode) -> str:
    """Return the text of one output."""
    return output.text if output.output_type == "stream" else output.data["text/plain"]


def stale(file: Path, made: NotebookNode) -> bool:
    """Whether a stored notebook is not what was made of it just now."""
    stored = nbformat.read(file, as_version=4)
    counts = [[cell.get("execution_count") for cell in each.cells] for each in (stored, made)]
    return words(stored) != words(made) or counts[0] != counts[1]


def main(argv: list[str]) -> int:
    """Run every tutorial; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--in", dest="folder", type=Path)
    args = parser.parse_args(argv)
    # Commands in cells are those of the Python that runs this.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    bad = []
    with tempfile.TemporaryDirectory() as temporary:
        for file in sorted(TUTORIALS.glob("*.ipynb")):
            made = executed(file, args.folder or Path(temporary))
            if not args.check:
                nbformat.write(made, file)
            elif stale(file, made):
                bad.append(file.name)
    if bad:
        print(f"stale: {', '.join(bad)}; `make tutorials` writes them anew", file=sys.stderr)
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
