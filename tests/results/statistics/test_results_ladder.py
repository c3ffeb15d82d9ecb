"""Slopes along a ladder, by hand and against NumPy's normal equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from results.statistics.ladder import per_doubling, slope


def test_a_slope_by_hand() -> None:
    # Means 2 and 3; Σ (x − 2)(y − 3) = (−2)(−2) + 0 + 2 · 3 + 0 · (−1) over Σ (x − 2)² = 8.
    assert slope([0, 2, 4, 2], [1, 3, 6, 2]) == pytest.approx(10 / 8)


def test_per_doubling_is_the_mean_of_slopes_over_logarithms_of_two_with_its_t_interval() -> None:
    numbers, rng = [8, 32, 128, 256], np.random.default_rng(0)
    value_NX = rng.normal(size=(6, 4)) + 0.3 * np.array([3, 5, 7, 8])
    found = per_doubling(numbers, [dict(enumerate(column)) for column in value_NX.T])
    design = np.stack([np.ones(4), [3, 5, 7, 8]], axis=1)
    slope_N = np.linalg.solve(design.T @ design, design.T @ value_NX.T)[1]
    half = stats.t.ppf(0.975, 5) * slope_N.std(ddof=1) / math.sqrt(6)
    assert found.mean == pytest.approx(slope_N.mean())
    assert (found.ci_low, found.ci_high) == pytest.approx((slope_N.mean() - half, slope_N.mean() + half))
    assert found.n == 6


def test_seeds_that_lack_a_step_take_no_part_and_few_have_no_interval() -> None:
    found = per_doubling([2, 4, 8], [{0: 1.0, 1: 9.0}, {0: 2.0}, {0: 3.0, 2: 9.0}])
    assert (found.mean, found.ci_low, found.ci_high, found.n) == (pytest.approx(1.0), None, None, 1)
    nothing = per_doubling([2, 4, 8], [{0: 1.0}, {1: 2.0}, {2: 3.0}])
    assert (nothing.mean, nothing.n) == (None, 0)


def test_what_all_steps_of_a_seed_have_in_common_does_not_count() -> None:
    shifted = [{seed: 10.0 * seed + step for seed in range(6)} for step in (0.0, 0.5, 1.0)]
    found = per_doubling([1, 2, 4], shifted)
    assert (found.mean, found.ci_low, found.ci_high) == pytest.approx((0.5, 0.5, 0.5))
