"""Load measures counted anew from a submission's loads: written from docs/measures.md, not from the code that trains.

Shapes: S steps, L MoE layers, E experts.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

CAPACITY_FACTORS = (1.0, 1.25, 1.5, 2.0)
WINDOW = 20  # steps in which an expert without a token counts as dead
TAIL = 0.2  # of training: what "the end" is

Array = NDArray[np.float64]


def violation(load: NDArray[Any]) -> Array:
    """MaxVio, (max n − n̄)/n̄, of each layer."""
    mean = load.mean(-1)
    return np.where(mean > 0, load.max(-1) / np.where(mean > 0, mean, 1) - 1, 0.0)


def recount(load_SLE: NDArray[Any], val_load_LE: NDArray[Any], warmup: int) -> dict[str, float]:
    """The measures that follow from counts, by their path in a record's `measures`."""
    load_SLE = load_SLE.astype(np.float64)
    steps, _, experts = load_SLE.shape
    end_SLE = load_SLE[-max(1, math.ceil(TAIL * steps)) :]
    vio_SL, vio_L, end_vio_SL = violation(load_SLE), violation(val_load_LE.astype(np.float64)), violation(end_SLE)
    total_SL, mean_SL = end_SLE.sum(-1), end_SLE.mean(-1)
    busy_SL = np.where(total_SL > 0, total_SL, 1)
    found = {
        "max_vio_global.mean": vio_L.mean(),
        "max_vio_global.worst": vio_L.max(),
        "max_vio_batch.tail_mean": end_vio_SL.mean(),
        "max_vio_batch.tail_worst": end_vio_SL.mean(0).max(),
        "max_vio_batch.peak": vio_SL[min(warmup, steps - 1) :].mean(1).max(),
        "balance.efficiency": (1 / (1 + end_vio_SL)).mean(),
        "balance.cv": np.where(mean_SL > 0, end_SLE.std(-1) / np.where(mean_SL > 0, mean_SL, 1), 0).mean(),
    }
    sorted_SLE, share_SLE = np.sort(end_SLE, -1), end_SLE / busy_SL[..., None]
    share_SLE = np.where(total_SL[..., None] > 0, share_SLE, 1 / experts)
    surprise_SLE = -share_SLE * np.log(np.where(share_SLE > 0, share_SLE, 1))
    below_SL = (np.cumsum(sorted_SLE, -1) / busy_SL[..., None]).sum(-1)  # area under the Lorenz curve
    gini_SL = np.where(total_SL > 0, (experts + 1 - 2 * below_SL) / experts, 0)
    most_SL = sorted_SLE[..., -1]
    found |= {
        "balance.entropy": surprise_SLE.sum(-1).mean() / math.log(experts) if experts > 1 else 1.0,
        "balance.gini": gini_SL.mean(),
        "balance.min_max": np.where(most_SL > 0, sorted_SLE[..., 0] / np.where(most_SL > 0, most_SL, 1), 1).mean(),
    }
    for factor in CAPACITY_FACTORS:
        capacity_SL = np.ceil(factor * total_SL / experts - 1e-9)
        over_SL = np.clip(end_SLE - capacity_SL[..., None], 0, None).sum(-1)
        found[f"overflow.{factor}"] = (over_SL / busy_SL).mean()
    window_LE = load_SLE[-min(WINDOW, steps) :].sum(0)
    found["dead_experts.zero_in_window"] = (window_LE == 0).mean()
    found["dead_experts.below_1_percent"] = (window_LE < 0.01 * window_LE.mean(-1, keepdims=True)).mean()
    return {name: float(value) for name, value in found.items()}
