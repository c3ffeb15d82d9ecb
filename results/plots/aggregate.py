"""Curves over seeds: mean and interval at every step."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

FEW = 4  # seeds under which a t interval says more of its own width than of the runs: their range is shown instead


def few_seeds(curves: pd.DataFrame) -> bool:
    """Whether no arm has `FEW` finished seeds."""
    finished = curves[~curves["diverged"].astype(bool)]
    return finished.empty or bool(finished.groupby("arm", observed=True)["seed"].nunique().max() < FEW)


def over_seeds(curves: pd.DataFrame, x: str, y: str, confidence: float = 0.95) -> pd.DataFrame:
    """Mean of `y` over finished seeds at each step, with a t interval, or the range of the seeds where they are few.

    Args:
        curves: columns arm, seed, diverged, step, `x`, `y`; one row per arm, seed and step.

    Returns:
        Columns arm, step, x (mean), mean, low, high, n. With one seed low and high equal the mean.
    """
    finished = curves[~curves["diverged"].astype(bool)].dropna(subset=[y])
    grouped = finished.groupby(["arm", "step"], sort=True, observed=True)
    table = grouped[y].agg(["mean", "std", "count", "min", "max"])
    table = table.rename(columns={"count": "n", "min": "low", "max": "high"})
    table["x"] = grouped[x].mean() if x != "step" else table.index.get_level_values("step").astype(float)
    if not few_seeds(curves):
        n = table["n"].to_numpy()
        quantile = stats.t.ppf(0.5 + confidence / 2, np.maximum(n - 1, 1))
        half = np.where(n > 1, quantile * table["std"].fillna(0.0) / np.sqrt(n), 0.0)
        table["low"], table["high"] = table["mean"] - half, table["mean"] + half
    return table.drop(columns="std").reset_index()
