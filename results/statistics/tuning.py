"""What tuning chooses of a knob's grid, from losses and MaxVio alone: the same for who trained and for who checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SEPARATOR = "@"  # of an arm and its grid value, in the name of a tuning's arm
BALANCED_BELOW = 1.0  # MaxVio: no expert gets twice its share

BySeed = Mapping[str, Sequence[float | None]]  # a grid value as text → a figure seed by seed, None if diverged


def arm_at(arm: str, value: float) -> str:
    """What an arm is called at a value of its grid."""
    return f"{arm}{SEPARATOR}{value:g}"


def choice(grid: Sequence[float], losses: BySeed, late: BySeed) -> dict[str, Any]:
    """What tuning writes down for an arm on a task: the tuned and the balanced value of its grid, and what from.

    A value that diverged on any seed is out.

    Args:
        grid: the knob's values.
        losses: held-out losses.
        late: MaxVio on late training batches.
    """
    texts = {f"{value:g}": value for value in grid}
    means = {
        text: float(np.mean([loss for loss in losses[text] if loss is not None]))
        for text in texts
        if text in losses and None not in losses[text]
    }
    best = texts[min(means, key=lambda text: means[text])] if means else None
    even, under = balanced_value(means, late)
    even_value = None if even is None else texts[even]
    edges = (grid[0], grid[-1])
    return {
        "value": best,
        "losses": losses,
        "at_edge": best in edges,
        "max_vio": late,
        "balanced": {"value": even_value, "at_edge": even_value in edges, "under_1": under},
    }


def balanced_value(means: Mapping[str, float], late: BySeed) -> tuple[str | None, bool]:
    """The grid value for the balanced track, and whether its MaxVio stays under 1 on every seed.

    Args:
        means: value → mean held-out loss, of values that did not diverge.
        late: value → MaxVio of late training batches, seed by seed.
    """
    worst = {v: max(x for x in late[v] if x is not None) for v in means if late[v] and None not in late[v]}
    under = [v for v in worst if worst[v] < BALANCED_BELOW]
    if under:
        return min(under, key=lambda v: means[v]), True
    return (min(worst, key=lambda v: worst[v]) if worst else None), False
