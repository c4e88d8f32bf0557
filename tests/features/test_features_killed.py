"""Extractions that are killed at random moments end in the same bytes as one that is left alone."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 20


def content(folder):
    """The sum of every file of a folder, by name."""
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork are POSIX")
def test_two_extractions_killed_twenty_times(tmp_path):
    child = Path(__file__).with_name("extraction_child.py")
    command = [sys.executable, str(child), str(tmp_path), str(KILLS), "0"]
    quiet = {**os.environ, "TOKENIZERS_PARALLELISM": "false"}  # it warns when it is forked
    told = subprocess.run(command, capture_output=True, text=True, timeout=500, env=quiet)
    assert told.returncode == 0, told.stdout + told.stderr
    lines = [line.split() for line in told.stdout.splitlines() if line]
    assert sum(line[3] == "killed" for line in lines) == KILLS
    # Kills fell before the first shard, between shards, and on more than one state of each bank.
    found = {(line[0], line[4]) for line in lines if line[3] == "killed"}
    assert len(found) >= 6, told.stdout
    whole = content(tmp_path / "whole")
    banks = [path for path in sorted(tmp_path.iterdir()) if path.name[0] in "ab"]
    assert len(banks) >= 2
    for bank in banks:
        assert content(bank) == whole, bank
