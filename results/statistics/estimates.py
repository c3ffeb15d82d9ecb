"""Statistics of paired differences, on arrays alone. Everywhere a difference is `arm − baseline` within a seed, and
lower is better.

The tests are scipy's. What is defined here is what they leave open: no pair, one pair, equal differences. Every random
draw is seeded, so equal records give equal numbers.

Shapes: R rows (arm × task), N paired seeds of a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.special import gammaln, stdtr, stdtrit

from results.statistics.power import MIN_SEEDS, detectable_difference, seeds_needed, smallest_p

__all__ = ["MIN_SEEDS", "Paired", "detectable_difference", "hedges_correction", "holm", "mean_interval", "paired"]
__all__ += ["paired_many", "seeds_needed", "smallest_p", "tost"]

LEVEL = 0.95  # of every interval
RESAMPLES = 9_999  # of every bootstrap
EXACT_UP_TO = 16  # pairs for which all 2ⁿ sign assignments are tried; beyond, RESAMPLES random ones
_BATCH = 2_000_000  # numbers held at once while resampling

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """One row's paired differences, summed up. What cannot be computed is None.

    With one pair only the mean is known. With equal differences the intervals have no width, Hedges' g is None (zero if
    every difference is zero) and the t test, which would claim certainty, gives way to the exact test. Two pairs have
    no Hedges' g: its correction is zero there, whatever the differences are.
    """

    n: int  # pairs
    mean: float | None = None
    sd: float | None = None  # of one difference
    ci_low: float | None = None  # 95 % t interval of the mean
    ci_high: float | None = None
    bootstrap_low: float | None = None  # 95 % BCa bootstrap interval of the mean; from 3 pairs
    bootstrap_high: float | None = None
    p_t: float | None = None  # two-sided paired t test
    p_sign_flip: float | None = None  # two-sided exact sign-flip permutation test
    hedges_g: float | None = None  # mean / sd, corrected for small n; from 3 pairs


def paired(differences_N: ArrayLike) -> Paired:
    """Summary of one row's differences, shape (N,). See `paired_many`."""
    return paired_many([differences_N])[0]


def paired_many(rows: Sequence[ArrayLike], *, bootstrap: bool = True) -> list[Paired]:
    """Summaries of many rows at once; rows may differ in length, and rows of one length are computed together.

    Args:
        rows: each row's differences, shape (N,); finite.
        bootstrap: also the bootstrap intervals, which cost the most and decide nothing.

    Raises:
        ValueError: a difference is not finite.
    """
    arrays = [np.asarray(row, dtype=float).ravel() for row in rows]
    if not all(np.isfinite(array).all() for array in arrays):
        raise ValueError("differences: not all are finite; expected the pairs in which both trials finished")
    summaries = [Paired(len(array), float(array.mean()) if len(array) else None) for array in arrays]
    for n in sorted({len(array) for array in arrays if len(array) > 1}):
        index = [i for i, array in enumerate(arrays) if len(array) == n]
        for i, summary in zip(index, _summaries(np.stack([arrays[i] for i in index]), bootstrap), strict=True):
            summaries[i] = summary
    return summaries


def _summaries(differences_RN: Array, bootstrap: bool) -> list[Paired]:
    n = differences_RN.shape[1]
    mean_R, sd_R = differences_RN.mean(1), differences_RN.std(1, ddof=1)
    equal_R = sd_R <= 1e-12 * np.abs(differences_RN).max(1)
    flip_R = sign_flip_p(differences_RN)
    low_R, high_R, t_R = mean_R.copy(), mean_R.copy(), flip_R.copy()
    boot_RL = np.stack([mean_R, mean_R], 1)
    vary = ~equal_R
    if vary.any():
        test = stats.ttest_1samp(differences_RN[vary], 0.0, axis=1)
        interval = test.confidence_interval(LEVEL)
        low_R[vary], high_R[vary], t_R[vary] = interval.low, interval.high, test.pvalue
        boot_RL[vary] = bca_interval(differences_RN[vary]) if bootstrap else np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        g_R = np.where(equal_R, np.where(mean_R == 0, 0.0, np.nan), hedges_correction(n - 1) * mean_R / sd_R)
    if n == 2:
        g_R = np.full_like(g_R, np.nan)
    columns = (mean_R, sd_R, low_R, high_R, boot_RL[:, 0], boot_RL[:, 1], t_R, flip_R, g_R)
    return [Paired(n, *(_number(value) for value in row)) for row in np.stack(columns, 1)]


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def sign_flip_p(differences_RN: Array) -> Array:
    """Two-sided p of the sign-flip permutation test of the mean, (R,): all 2ᴺ assignments up to N = EXACT_UP_TO.

    `scipy.stats.permutation_test` gives the same p; here one matrix product serves all rows, many times faster. Sums
    that differ by rounding alone count as equal.
    """
    rows, n = differences_RN.shape
    sampled = n > EXACT_UP_TO
    if sampled:
        signs_FN = np.random.default_rng(0).choice((-1.0, 1.0), (RESAMPLES, n))
    else:
        signs_FN = 1.0 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    p_R = np.empty(rows)
    step = max(1, _BATCH // len(signs_FN))
    for start in range(0, rows, step):
        part_RN = differences_RN[start : start + step]
        observed_R = np.abs(part_RN.sum(1)) - 1e-12 * np.abs(part_RN).sum(1)
        as_extreme_R = (np.abs(part_RN @ signs_FN.T) >= observed_R[:, None]).sum(1)
        p_R[start : start + step] = (as_extreme_R + sampled) / (len(signs_FN) + sampled)  # Phipson and Smyth 2010
    return p_R


def bca_interval(differences_RN: Array) -> Array:
    """95 % BCa bootstrap interval of the mean (Efron 1987), (R, 2); NaN below 3 pairs."""
    rows, n = differences_RN.shape
    if n < 3:
        return np.full((rows, 2), np.nan)
    interval = stats.bootstrap(
        (differences_RN,),
        np.mean,
        method="BCa",
        confidence_level=LEVEL,
        n_resamples=RESAMPLES,
        axis=1,
        vectorized=True,
        batch=max(1, _BATCH // (rows * n)),
        rng=np.random.default_rng(0),
    ).confidence_interval
    return np.stack([np.asarray(interval.low), np.asarray(interval.high)], 1)


def hedges_correction(df: int) -> float:
    """Hedges' exact small-sample factor J = Γ(df/2) / (√(df/2) Γ((df − 1)/2)) (Hedges 1981, eq. 6e); 0 for df = 1."""
    if df < 2:
        return 0.0
    return math.exp(float(gammaln(df / 2) - gammaln((df - 1) / 2))) / math.sqrt(df / 2)


def tost(summary: Paired, margin: float) -> float | None:
    """p of two one-sided t tests that the mean lies inside ±margin (Schuirmann 1987); None below two pairs.

    Equal differences are inside (p = 0) or not (p = 1) with certainty; identical trials are so for every margin.
    """
    if summary.mean is None or summary.sd is None:
        return None
    size = abs(summary.mean)
    if summary.ci_low == summary.ci_high:
        return 0.0 if size < margin or size == 0 else 1.0
    error = summary.sd / math.sqrt(summary.n)
    return float(stdtr(summary.n - 1, (size - margin) / error))  # the side nearer to its margin has the larger p


def mean_interval(values: Sequence[float]) -> tuple[float | None, float | None, float | None]:
    """Mean and 95 % t interval; no interval from one value, nothing from none."""
    if not values:
        return None, None, None
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None, None
    half = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (Holm 1979). A missing p counts as one member of the family, as if it were 1."""
    filled = np.array([1.0 if p is None else p for p in p_values])
    order = np.argsort(filled, kind="stable")
    steps = filled[order] * np.arange(len(filled), 0, -1)
    adjusted = np.empty_like(filled)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [None if p is None else float(a) for p, a in zip(p_values, adjusted, strict=True)]
