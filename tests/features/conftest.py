"""A bank on disk, as small as can be."""

import pytest
from sample_banks import description, random_rows

from fsclip_jax.features.writing import write_bank


@pytest.fixture
def make_bank(tmp_path):
    """Write a random bank and return it opened."""

    def make(name="bank", shard=5, dtype="float32", rows=None, **sizes):
        rows = random_rows(**sizes) if rows is None else rows
        known = {key: sizes[key] for key in ("dim", "classes", "families") if key in sizes}
        return write_bank(tmp_path / name, rows, description(**known), shard=shard, dtype=dtype)

    return make
