"""Curves over seeds: mean and interval at every step."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats


def over_seeds(curves: pd.DataFrame, x: str, y: str, confidence: float = 0.95) -> pd.DataFrame:
    """Mean of `y` over finished seeds at each step, with a t interval; seeds that diverged are left to be drawn singly.

    Args:
        curves: columns arm, seed, diverged, step, `x`, `y`; one row per arm, seed and step.

    Returns:
        Columns arm, step, x (mean), mean, low, high, n. With one seed low and high equal the mean.
    """
    finished = curves[~curves["diverged"]].dropna(subset=[y])
    grouped = finished.groupby(["arm", "step"], sort=True, observed=True)
    table = grouped[y].agg(["mean", "std", "count"]).rename(columns={"count": "n"})
    table["x"] = grouped[x].mean() if x != "step" else table.index.get_level_values("step").astype(float)
    n = table["n"].to_numpy()
    quantile = stats.t.ppf(0.5 + confidence / 2, np.maximum(n - 1, 1))
    half = np.where(n > 1, quantile * table["std"].fillna(0.0) / np.sqrt(n), 0.0)
    table["low"], table["high"] = table["mean"] - half, table["mean"] + half
    return table.drop(columns="std").reset_index()
