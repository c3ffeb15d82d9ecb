"""Published curves: small, and the same where figures and claims read them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.records.thinning import POINTS, thin_curves


@pytest.fixture
def both(tmp_path):
    rng = np.random.default_rng(0)
    steps = np.arange(1, 501)
    val_loss = [5.0 - step / 500 if step % 125 == 0 else None for step in steps]
    noise = {name: rng.normal(size=500) for name in ("train_loss", "max_vio", "grad_norm", "load_entropy")}
    table = pa.table({"step": steps, "tokens": 2048 * steps, "seconds": steps / 10, "val_loss": val_loss,
                      "bias_step": pa.nulls(500, pa.float64()), **noise})  # fmt: skip
    pq.write_table(table, tmp_path / "whole.parquet", compression="zstd")
    thin_curves(tmp_path / "whole.parquet", tmp_path / "thin.parquet")
    return table, pq.read_table(tmp_path / "thin.parquet"), tmp_path


def test_every_evaluation_is_kept(both):
    whole, thin, _ = both
    kept = [
        (s, v) for s, v in zip(thin["step"].to_pylist(), thin["val_loss"].to_pylist(), strict=True) if v is not None
    ]
    assert kept == [(125, 4.75), (250, 4.5), (375, 4.25), (500, 4.0)]
    assert thin.num_rows <= POINTS + 4
    assert thin.column_names == whole.column_names


def test_means_over_stretches(both):
    whole, thin, _ = both
    ends = thin["step"].to_pylist()
    values = whole["max_vio"].to_numpy()
    expected = [values[start:end].mean() for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    assert thin["max_vio"].to_numpy() == pytest.approx(expected, rel=1e-5)
    assert thin["bias_step"].null_count == thin.num_rows


def test_a_tenth_of_the_size(both):
    folder = both[2]
    size = (folder / "thin.parquet").stat().st_size
    assert 10 * size < (folder / "whole.parquet").stat().st_size
    pq.write_table(pq.read_table(folder / "thin.parquet"), folder / "defaults.parquet", compression="zstd")
    assert 1.6 * size < (folder / "defaults.parquet").stat().st_size
