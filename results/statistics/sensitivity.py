"""Can a task judge balancing at all? Where experts hardly help, learned routers can hardly be told apart.

Per task: the *gain*, what the best causal arm at equal FLOPs is ahead of the dense twin; the *spread*, the median
standard deviation of a paired difference; the *resolution*, the smallest difference that a verdict finds with 80 %
power; and one word, *fit* or *blunt*.

The best of many arms, chosen by the seeds that also measure it, looks better than it is. So each seed is measured on
the arm that leads on all the other seeds (leave one out): the mean of these values is at most the best arm's true gain,
never beyond it by choice. docs/calibration-tokens.md simulates bias and coverage.

Shapes: A arms, N seeds.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from results.statistics.estimates import mean_interval

FIT_GAIN = 0.15  # nats/token that the best arm has to be ahead of the dense twin
FIT_SPREADS = 10  # and so many times the spread of a paired difference

Word = Literal["fit", "blunt"]


@dataclass(frozen=True)
class Gain:
    """What the best arm is ahead of the dense twin, and which arm leads over all seeds."""

    values_N: tuple[float, ...]  # one per seed, on the arm that leads on the other seeds
    arm: str | None = None


def leave_one_out(ahead_AN: ArrayLike) -> NDArray[np.float64]:
    """For each seed the value of the row whose mean over the other seeds is the highest, (N,).

    Args:
        ahead_AN: how far each arm is ahead on each seed; NaN where it has no value.

    Returns:
        NaN for a seed on which no arm has both a value and another seed to be chosen by.
    """
    ahead = np.asarray(ahead_AN, dtype=float)
    there = np.isfinite(ahead)
    filled = np.where(there, ahead, 0.0)
    others_AN = there.sum(1, keepdims=True) - there
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_AN = (filled.sum(1, keepdims=True) - filled) / others_AN
    mean_AN = np.where(there & (others_AN > 0), mean_AN, -np.inf)
    chosen_N = mean_AN.argmax(0)
    seeds_N = np.arange(ahead.shape[1])
    return np.where(np.isfinite(mean_AN[chosen_N, seeds_N]), ahead[chosen_N, seeds_N], np.nan)


def gain(ahead: Mapping[str, Mapping[int, float]]) -> Gain:
    """The gain of the best of these arms over the dense twin.

    Args:
        ahead: arm → seed → loss of the dense twin minus that of the arm, for causal arms at equal FLOPs.
    """
    seeds = sorted({seed for own in ahead.values() for seed in own})
    if not seeds:
        return Gain(())
    rows_AN = np.array([[own.get(seed, np.nan) for seed in seeds] for own in ahead.values()], dtype=float)
    values_N = leave_one_out(rows_AN)
    whole = {arm: own for arm, own in ahead.items() if len(own) == max(map(len, ahead.values()))}
    best = max(whole, key=lambda arm: statistics.fmean(whole[arm].values()))
    return Gain(tuple(float(value) for value in values_N[np.isfinite(values_N)]), best)


def spread(deviations: Sequence[float | None]) -> float | None:
    """The median of the arms' standard deviations of a paired difference; None where no arm has two pairs."""
    known = [value for value in deviations if value is not None]
    return statistics.median(known) if known else None


def judge(mean: float | None, spread: float | None) -> Word | None:
    """One word for a task; None where gain or spread are unknown."""
    if mean is None or spread is None:
        return None
    return "fit" if mean >= FIT_GAIN and mean >= FIT_SPREADS * spread else "blunt"


def summary(found: Gain, spread: float | None, resolution: float | None) -> dict[str, Any]:
    """A task's sensitivity as boards and plans show it."""
    mean, low, high = mean_interval(found.values_N) if len(found.values_N) > 1 else (None, None, None)
    return {
        "gain": {"mean": mean, "ci_low": low, "ci_high": high, "arm": found.arm, "n": len(found.values_N)},
        "spread": spread,
        "resolution": resolution,
        "word": judge(mean, spread),
    }
