"""Extractions that are killed at random moments end in the same bytes as one that is left alone."""

import os

import pytest
from folders import content
from killing import kills_of


@pytest.mark.slow
@pytest.mark.kills
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork are POSIX")
def test_two_extractions_killed_again_and_again(tmp_path, kills):
    lines = kills_of("extraction_child.py", kills, tmp_path)
    assert sum(line[3] == "killed" for line in lines) == kills
    # Kills fell before the first shard, between shards, and on more than one state of each bank.
    found = {(line[0], line[4]) for line in lines if line[3] == "killed"}
    assert len(found) >= min(6, kills - 1), lines
    # A kill loses no shard that was finished.
    kept = {}
    for bank, _, _, _, shards in (line for line in lines if line[3] == "killed"):
        assert int(shards) >= kept.get(bank, 0), lines
        kept[bank] = int(shards)
    whole = content(tmp_path / "whole")
    banks = [path for path in sorted(tmp_path.iterdir()) if path.name[0] in "ab"]
    assert len(banks) >= 2
    for bank in banks:
        assert content(bank) == whole, bank
