"""Predictions in columns of Parquet, read and written some rows at a time."""

import json
from collections.abc import Iterator
from pathlib import Path

from fsclip_jax.durable import whole_file
from fsclip_jax.errors import require_extra
from fsclip_jax.prediction.formats import (
    BROKEN,
    Layout,
    Row,
    columns_of,
    damaged,
    is_number,
    row_of,
)

_GROUP = 10_000  # rows that are in memory together


def read_parquet(table: Path) -> Iterator[Row]:
    """Read a finished table of Parquet, row by row.

    Raises:
        UserError: it is no such table, or not as it was written.
    """
    require_extra(["pyarrow.parquet"], None, str(table))
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(table) as file:
            columns = columns_of(dict.fromkeys(file.schema_arrow.names))
            for batch in file.iter_batches(_GROUP):
                for found in batch.to_pylist():
                    number += 1
                    yield row_of(found, columns)
    except (*BROKEN, OSError) as error:  # Arrow's errors are of these kinds
        raise damaged(table, number, error) from error


def write_parquet(rows: Path, layout: Layout, table: Path) -> None:
    """Write lines as a table of Parquet, whole or not at all.

    Raises:
        UserError: the disk is full, or the place cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = [(name, pa.float64() if is_number(name) else pa.string()) for name in layout.columns]
    group: list[dict[str, str | float]] = []
    with (
        rows.open("rb") as file,
        whole_file(table) as sink,
        pq.ParquetWriter(sink, pa.schema(kinds), compression="zstd") as writer,
    ):
        for line in file:
            group.append(json.loads(line))
            if len(group) == _GROUP:
                writer.write_table(pa.Table.from_pylist(group, pa.schema(kinds)))
                group = []
        writer.write_table(pa.Table.from_pylist(group, pa.schema(kinds)))
