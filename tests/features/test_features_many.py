"""A data set of many records streams: its images are never in memory together."""

import subprocess
import sys
from pathlib import Path

import pytest

MANY = 250_000
LIMIT = 800 << 20
"""Of which 400 MB are there before the first record: a million would stay below 2 GB."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is counted in other units")
def test_a_quarter_of_a_million_records_take_less_than_800_megabytes(tmp_path):
    program = Path(__file__).parents[1] / "support" / "many_records.py"
    command = [sys.executable, str(program), str(tmp_path / "bank"), str(MANY)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert told.returncode == 0, told.stderr
    records, kilobytes, _ = map(int, told.stdout.split())
    assert records == MANY
    assert kilobytes << 10 < LIMIT
