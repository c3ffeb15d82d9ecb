"""Curves thinned to what figures show, for publishing: a row for each stretch of training, and for each evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

POINTS = 48  # stretches kept of a curve: what a small figure can show
AT_END = ("step", "tokens", "seconds", "lr", "val_loss")  # the others are averaged over their stretch


def thin_curves(source: Path, target: Path) -> None:
    """Write a trial's curves again with at most `POINTS` stretches and its evaluations, numbers in single precision.

    Args:
        source: `curves.parquet` as a trial leaves it.
    """
    table = pq.read_table(source)
    length = table.num_rows
    evaluated = np.flatnonzero(table["val_loss"].is_valid().to_numpy())
    ends = np.linspace(0, length, min(POINTS, length) + 1)[1:].astype(int) - 1
    ends = np.unique(np.concatenate([ends, evaluated])).astype(int)
    starts = np.concatenate([[0], ends[:-1] + 1]).astype(int)
    columns = {}
    for name in table.column_names:
        values = table[name].to_numpy(zero_copy_only=False).astype(float)
        if name in AT_END:
            kept = values[ends]
        else:
            there = np.isfinite(values)
            sums = np.add.reduceat(np.where(there, values, 0.0), starts) if length else values
            counts = np.add.reduceat(there.astype(float), starts) if length else values
            kept = np.divide(sums, counts, out=np.full(len(ends), np.nan), where=counts > 0)
        whole = name in ("step", "tokens")
        columns[name] = (
            pa.array(kept.astype(np.int64)) if whole else pa.array(kept.astype(np.float32), from_pandas=True)
        )
    write_small(pa.table(columns), target)


def write_small(table: pa.Table, target: Path) -> None:
    """Write a short table in half the bytes that Parquet's defaults take: what describes fifty rows outweighs them."""
    floats = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    pq.write_table(
        table,
        target,
        compression="zstd",
        use_dictionary=False,
        use_byte_stream_split=floats,
        write_statistics=False,
        store_schema=False,
    )
