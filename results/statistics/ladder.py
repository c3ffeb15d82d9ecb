"""What changes along a ladder: the slope of a measure over steps of a number, within a seed.

Every seed gives one slope, and slopes of different seeds are independent of each other, whatever values of one seed
have in common: the t interval of their mean needs no more than that. A straight line is a summary; what it leaves out
shows in the values themselves.

Shapes: X steps of the ladder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from results.statistics.estimates import mean_interval


@dataclass(frozen=True)
class Trend:
    """The mean over seeds of a slope, with its 95 % t interval; None where there are too few seeds."""

    mean: float | None
    ci_low: float | None
    ci_high: float | None
    n: int  # seeds that have a value at every step


def slope(x_X: Sequence[float], y_X: Sequence[float]) -> float:
    """Least-squares slope of y over x."""
    return float(np.polyfit(np.asarray(x_X, dtype=float), np.asarray(y_X, dtype=float), 1)[0])


def per_doubling(number_X: Sequence[float], by_seed_X: Sequence[Mapping[int, float]]) -> Trend:
    """How much a measure changes where the number doubles.

    Args:
        number_X: the number at each step, positive.
        by_seed_X: at each step, seed → value; seeds that lack a step take no part.
    """
    doublings = [math.log2(number) for number in number_X]
    seeds = sorted(set.intersection(*map(set, by_seed_X)))
    slopes = [slope(doublings, [values[seed] for values in by_seed_X]) for seed in seeds]
    return Trend(*mean_interval(slopes), len(slopes))
