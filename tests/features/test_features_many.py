"""A data set of a million records streams: memory does not grow with it."""

import subprocess
import sys
from pathlib import Path

import pytest

MANY = 1_000_000
LIMIT = 2 << 30


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is counted in other units")
def test_a_million_records_take_less_than_two_gigabytes(tmp_path):
    program = Path(__file__).parents[1] / "support" / "many_records.py"
    command = [sys.executable, str(program), str(tmp_path / "bank"), str(MANY)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert told.returncode == 0, told.stderr
    records, kilobytes, _ = map(int, told.stdout.split())
    assert records == MANY
    assert kilobytes << 10 < LIMIT
