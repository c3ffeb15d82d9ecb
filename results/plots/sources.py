"""What the figures of one task are drawn from: curves, loads and biases of a bounded number of its trials.

Shapes: N points kept of a curve, L layers, E experts, M steps of the trial.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

POINTS = 80  # kept of every curve: what a small figure can show
MAX_SEEDS = 8  # trials of an arm whose curves are read: enough for an interval, and bounded for a suite of thousands
_COLUMNS = ("step", "tokens", "seconds", "max_vio", "val_loss")


@dataclass(frozen=True)
class Loads:
    """One trial's loads and biases, averaged over equal stretches of training."""

    steps_N: np.ndarray  # last step of each stretch
    load_NLE: np.ndarray  # load / ideal: 1.0 is balanced
    bias_NLE: np.ndarray | None  # score units, at the end of each stretch
    held_out_LE: np.ndarray | None  # tokens on the held-out set


@dataclass(frozen=True)
class Evidence:
    """Everything the figures of one task need."""

    curves: pd.DataFrame  # arm, seed, diverged, step, tokens, seconds, max_vio: means over stretches
    evaluations: pd.DataFrame  # arm, seed, diverged, step, tokens, seconds, val_loss: where the held-out loss was taken
    loads: Mapping[str, Loads] = field(default_factory=dict)  # one seed per arm
    seeds: int = 0  # the most seeds any arm's curves show
    load_seed: int | None = None


def gather(outcomes: Mapping[str, Sequence[tuple[int, bool]]], folders: Mapping[tuple[str, int], Path]) -> Evidence:
    """Read the curves of up to `MAX_SEEDS` trials per arm, and the loads of one.

    Args:
        outcomes: arm → (seed, diverged) of its trials with a record, by seed.
        folders: (arm, seed) → the trial's folder. A folder without curves is passed over: the record alone counts.
    """
    tables = list(_tables(outcomes, folders))
    curves = pd.concat([curve for curve, _ in tables]) if tables else _empty("max_vio")
    evaluations = pd.concat([losses for _, losses in tables]) if tables else _empty("val_loss")
    loads: dict[str, Loads] = {}
    seeds = [seed for runs in outcomes.values() for seed, diverged in runs if not diverged]
    common = max(sorted(set(seeds)), key=seeds.count, default=None)  # the first seed that most arms finished
    for arm in outcomes:
        path = folders.get((arm, common)) if common is not None else None
        if path is not None and (path / "load.npz").exists() and (common, False) in outcomes[arm]:
            loads[arm] = read_loads(path / "load.npz")
    shown = evaluations if len(evaluations) else curves
    count = int(shown.groupby("arm", observed=True)["seed"].nunique().max()) if len(shown) else 0
    return Evidence(curves, evaluations, loads, count, common)


def read_loads(path: Path) -> Loads:
    """One trial's load.npz, averaged to `POINTS` stretches."""
    with np.load(path, allow_pickle=False) as arrays:
        load_MLE = arrays["load"]
        edges = _edges(len(load_MLE))
        ends = np.append(edges[1:], len(load_MLE))
        sums_NLE = np.add.reduceat(load_MLE, edges, axis=0, dtype=np.float64)
        ideal_NL1 = np.maximum(sums_NLE.mean(-1, keepdims=True), 1e-12)
        bias_NLE = arrays["bias"][ends - 1] if "bias" in arrays.files else None
        held_out = arrays["val_load"].astype(np.float64) if "val_load" in arrays.files else None
        return Loads(ends, sums_NLE / ideal_NL1, bias_NLE, held_out)


def _tables(
    outcomes: Mapping[str, Sequence[tuple[int, bool]]], folders: Mapping[tuple[str, int], Path]
) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    for arm, runs in outcomes.items():
        for seed, diverged in runs[:MAX_SEEDS]:
            path = folders[arm, seed] / "curves.parquet"
            if path.exists():
                yield _thin(_read(path), {"arm": arm, "seed": seed, "diverged": diverged})


def _read(path: Path) -> dict[str, np.ndarray]:
    table: pa.Table = pq.ParquetFile(path).read(columns=list(_COLUMNS))
    return {name: np.asarray(table[name].to_numpy(), dtype=np.float64) for name in table.column_names}


def _thin(columns: Mapping[str, np.ndarray], identity: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split into the curve, averaged over stretches, and the evaluations, of which at most `POINTS` are kept."""
    length = len(columns["step"])
    edges = _edges(length)
    ends = np.append(edges[1:], length) - 1
    sizes = np.diff(np.append(edges, length))
    curve = {name: columns[name][ends] for name in ("step", "tokens", "seconds")}
    curve["max_vio"] = np.add.reduceat(columns["max_vio"], edges) / sizes if length else columns["max_vio"]
    taken = np.flatnonzero(np.isfinite(columns["val_loss"]))
    taken = taken[np.unique(np.linspace(0, len(taken) - 1, min(POINTS, len(taken))).round().astype(int))]
    losses = {name: columns[name][taken] for name in ("step", "tokens", "seconds", "val_loss")}
    return pd.DataFrame({**identity, **curve}), pd.DataFrame({**identity, **losses})


def _edges(length: int) -> np.ndarray:
    """First index of each stretch: at most `POINTS` of them, of equal length give or take one."""
    return np.unique(np.linspace(0, length, min(POINTS, length), endpoint=False).astype(int))


def _empty(measure: str) -> pd.DataFrame:
    return pd.DataFrame({name: [] for name in ("arm", "seed", "diverged", "step", "tokens", "seconds", measure)})
