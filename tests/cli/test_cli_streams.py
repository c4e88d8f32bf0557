"""Standard output that is closed, full, left by its reader or unable to say a name."""

import os
import re
import subprocess
import sys

import pytest
from synthetic_bank import synthetic_bank

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/full and closed files")

COMMAND = [sys.executable, "-m", "fsclip_jax.cli.main"]


def shell(line, place, **variables):
    """Run a line of bash; return exit code and what was said on the error stream."""
    words = ["bash", "-c", "set -o pipefail; " + line, *COMMAND]
    done = subprocess.run(
        words, cwd=place, stderr=subprocess.PIPE, text=True, timeout=300, env=os.environ | variables
    )
    return done.returncode, done.stderr


FULL = "fsclip: error: standard output cannot be written: No space left on device\n"


@pytest.mark.parametrize(
    ("where", "code", "said"),
    [(">&-", 0, ""), ("> /dev/full", 2, FULL), ("| head -1", 0, ""), (">&- 2>&- <&-", 0, "")],
)
@pytest.mark.parametrize("words", ["methods", "train --help"])
def test_a_list_that_cannot_be_printed(words, where, code, said, tmp_path):
    line = f'"$0" "$@" {words} {where}'
    assert shell(line, tmp_path) == (code, said)


def test_a_mistake_is_told_however_closed_standard_output_is(tmp_path):
    code, said = shell('"$0" "$@" metods >&-', tmp_path)
    assert code == 2
    assert said.startswith("fsclip: error: unknown command 'metods'")
    assert said.count("\n") == 1


def test_letters_that_the_encoding_lacks_are_spelled_out(tmp_path):
    line = '"$0" "$@" train --data folder:$(printf "caf\\xc3\\xa9-\\xff")'
    code, said = shell(line, tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert code == 2
    assert "caf\\xe9-" in said
    assert "Traceback" not in said


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path):
    program = (
        "import os, sys\n"
        "from fsclip_jax.cli import main, methods\n"
        "def work(_):\n"
        "    with open('data', 'wb') as file:\n"
        "        os.write(1, b'stray')\n"
        "        file.write(b'data')\n"
        "    return 0\n"
        "methods.main = work\n"
        "sys.exit(main.main(['methods']))\n"
    )
    (tmp_path / "program.py").write_text(program)
    assert shell(f"{sys.executable} program.py >&- <&-", tmp_path) == (0, "")
    assert (tmp_path / "data").read_bytes() == b"data"


def test_the_first_line_says_on_what_a_command_computes(tmp_path):
    """Of a machine with a GPU that JAX does not see; what was piped before stays as it was."""
    synthetic_bank(tmp_path / "bank")
    wrong, evaluate = (
        ["eval", "--data", "bank:no"],
        ["eval", "--data", "bank:bank", "--methods", "zero_shot", "--shots", "1"],
    )
    program = (
        "import sys\n"
        "from fsclip_jax import devices\n"
        "from fsclip_jax.cli.main import main\n"
        "devices.unseen_accelerator = lambda: 'no GPU'\n"
        f"for words in (['methods'], ['eval', '--help'], {wrong}, {evaluate}):\n"
        "    main(words)\n"
        "    print('ended', file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    listed, helped, wrong, evaluated, rest = done.stderr.split("ended\n")
    assert listed == helped == rest == ""
    assert wrong.startswith("fsclip: error: ")
    assert wrong.count("\n") == 1
    assert re.match(r"fsclip: on \d+ CPU cores?\nfsclip: warning: no GPU\n", evaluated)
    assert evaluated.count("CPU core") == 1
    assert "CPU core" not in done.stdout
    assert "Base classes" in done.stdout or "zero_shot" in done.stdout
