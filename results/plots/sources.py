"""What the figures of one task are drawn from: curves, loads and biases of a bounded number of its trials.

Shapes: N points kept of a curve, L layers, E experts, M single steps.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

POINTS = 48  # kept of every curve: what a small figure can show
TAIL_STEPS = 48  # single steps kept of the last fifth
MAX_SEEDS = 8  # trials of an arm whose curves are read: enough for an interval, and bounded for a suite of thousands
_COLUMNS = ("step", "tokens", "seconds", "max_vio", "val_loss")


@dataclass(frozen=True)
class Loads:
    """One trial's loads and biases, averaged over equal stretches of training."""

    steps_N: np.ndarray  # last step of each stretch
    load_NLE: np.ndarray  # load / ideal: 1.0 is balanced
    bias_NLE: np.ndarray | None  # score units, at the end of each stretch
    tail_MLE: np.ndarray  # assignments of single steps out of the last fifth of training


@dataclass(frozen=True)
class Run:
    """One trial that left a record."""

    arm: str
    seed: int
    diverged: bool
    folder: Path


@dataclass(frozen=True)
class Evidence:
    """Everything the figures of one task need."""

    curves: pd.DataFrame  # arm, seed, diverged, step, tokens, seconds, max_vio: means over stretches
    evaluations: pd.DataFrame  # arm, seed, diverged, step, tokens, seconds, val_loss: where the held-out loss was taken
    points: pd.DataFrame  # arm, seed, max_vio, val_loss: held-out set, finished trials
    loads: Mapping[str, Loads] = field(default_factory=dict)  # one seed per arm
    load_seed: int | None = None


def gather(runs: Sequence[Run]) -> Evidence:
    """Read the curves of the first `MAX_SEEDS` trials of each arm, and the loads of one.

    Args:
        runs: trials with a record, by arm and seed. A folder without curves is passed over: its record still counts.

    Raises:
        ValueError: curves or loads are there and cannot be read; one line naming the file.
    """
    by_arm: dict[str, list[Run]] = {}
    for run in runs:
        by_arm.setdefault(run.arm, []).append(run)
    shown = [run for own in by_arm.values() for run in own[:MAX_SEEDS]]
    tables = [_thin(run) for run in shown if (run.folder / "curves.parquet").exists()]
    finished = [run.seed for run in runs if not run.diverged]
    common = max(sorted(set(finished)), key=finished.count, default=None)  # the first seed that most arms finished
    loads = {
        run.arm: read_loads(run.folder / "load.npz")
        for run in runs
        if run.seed == common and not run.diverged and (run.folder / "load.npz").exists()
    }
    return Evidence(
        pd.concat([curve for curve, _ in tables]) if tables else _empty("max_vio"),
        pd.concat([losses for _, losses in tables]) if tables else _empty("val_loss"),
        pd.DataFrame(
            [_point(run) for run in shown if not run.diverged], columns=["arm", "seed", "max_vio", "val_loss"]
        ),
        loads,
        common,
    )


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, IndexError, BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read ({str(error).splitlines()[0][:120]}); expected {what}") from None


def read_loads(path: Path) -> Loads:
    """One trial's load.npz, averaged to `POINTS` stretches.

    Raises:
        ValueError: the file is truncated or lacks its arrays; one line naming it.
    """
    with _reading(path, "a trial's loads"), np.load(path, allow_pickle=False) as arrays:
        load_MLE = arrays["load"]
        edges = _edges(len(load_MLE))
        ends = np.append(edges[1:], len(load_MLE))
        sums_NLE = np.add.reduceat(load_MLE, edges, axis=0, dtype=np.float64)
        ideal_NL1 = np.maximum(sums_NLE.mean(-1, keepdims=True), 1e-12)
        bias_NLE = arrays["bias"][ends - 1] if "bias" in arrays.files else None
        tail = np.unique(np.linspace(0.8 * len(load_MLE), len(load_MLE) - 1, TAIL_STEPS).astype(np.intp))
        return Loads(ends, sums_NLE / ideal_NL1, bias_NLE, load_MLE[tail])


def _thin(run: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A trial's curve, averaged over stretches, and its evaluations, of which at most `POINTS` are kept."""
    path = run.folder / "curves.parquet"
    with _reading(path, "a trial's curves"):
        table: pa.Table = pq.ParquetFile(path).read(columns=list(_COLUMNS))
        columns = {name: np.asarray(table[name].to_numpy(), dtype=np.float64) for name in _COLUMNS}
    identity = {"arm": run.arm, "seed": run.seed, "diverged": run.diverged}
    length = table.num_rows
    edges = _edges(length)
    ends = np.append(edges[1:], length) - 1 if length else edges
    curve = {name: columns[name][ends] for name in ("step", "tokens", "seconds")}
    sums = np.add.reduceat(columns["max_vio"], edges) if length else columns["max_vio"]
    curve["max_vio"] = sums / np.diff(np.append(edges, length))
    taken = np.flatnonzero(np.isfinite(columns["val_loss"]))
    taken = taken[np.unique(np.linspace(0, len(taken) - 1, min(POINTS, len(taken))).round().astype(int))]
    losses = {name: columns[name][taken] for name in ("step", "tokens", "seconds", "val_loss")}
    last = _measures(run)["val_loss"]
    if length and last is not None and not run.diverged and not np.isfinite(columns["val_loss"][-1]):
        end = {name: columns[name][-1] for name in ("step", "tokens", "seconds")}  # the record has the one at the end
        losses = {name: np.append(values, (end | {"val_loss": last})[name]) for name, values in losses.items()}
    return pd.DataFrame({**identity, **curve}), pd.DataFrame({**identity, **losses})


def _measures(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run.folder / "record.json").read_text(encoding="utf-8"))["measures"]
    return found


def _point(run: Run) -> dict[str, Any]:
    measures = _measures(run)
    max_vio = (measures["max_vio_global"] or {}).get("mean")
    return {"arm": run.arm, "seed": run.seed, "max_vio": max_vio, "val_loss": measures["val_loss"]}


def _edges(length: int) -> np.ndarray:
    """First index of each stretch: at most `POINTS` of them, of equal length give or take one."""
    return np.unique(np.linspace(0, length, min(POINTS, length), endpoint=False).astype(np.intp))


def _empty(measure: str) -> pd.DataFrame:
    return pd.DataFrame({name: [] for name in ("arm", "seed", "diverged", "step", "tokens", "seconds", measure)})
