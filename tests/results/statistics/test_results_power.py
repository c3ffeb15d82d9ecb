"""Power against simulation and against numbers stated in the protocol."""

import math

import numpy as np
import pytest
from scipy import stats

from results.statistics.power import detectable_difference, seeds_needed, smallest_p


def test_smallest_p_as_the_protocol_states_it():
    assert smallest_p(6, 1) == pytest.approx(0.03125)
    assert smallest_p(6, 8) == pytest.approx(0.25)
    assert smallest_p(9, 8) == pytest.approx(0.03125)
    assert smallest_p(2, 8) == 1.0


@pytest.mark.parametrize(("n", "arms"), [(6, 1), (6, 7), (9, 7), (10, 4), (30, 7)])
def test_detectable_difference_is_found_as_often_as_promised(n, arms):
    difference = detectable_difference(n, 0.01, arms, power=0.8)
    draws = np.random.default_rng(0).normal(difference, 0.01, (4_000, n))
    assert _found(draws, arms).mean() == pytest.approx(0.8, abs=0.025)


def _found(draws, arms):
    """The t test at Holm's first step and, where it could have reached 0.05, the exact test, adjusted or else raw."""
    n = draws.shape[1]
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05 / arms
    if n <= 16:
        exact = stats.permutation_test(
            (draws,),
            np.mean,
            permutation_type="samples",
            n_resamples=np.inf if n < 12 else 2_000,
            axis=1,
            vectorized=True,
            batch=100,
            rng=np.random.default_rng(2),
        ).pvalue
        found &= exact < (0.05 / arms if arms * 2 / 2**n < 0.05 else 0.05)
    return found


def test_detectable_difference_known_sample_size():
    # Textbook: a paired t test at 0.05 with 80 % power and 34 pairs detects half a standard deviation.
    assert detectable_difference(34, 1.0) == pytest.approx(0.5, abs=0.01)
    assert detectable_difference(34, 0.02) == pytest.approx(0.01, abs=0.0002)
    assert detectable_difference(5, 1.0) is None
    assert detectable_difference(10, 0.0) == 0.0


def test_there_is_no_jump_where_simulation_ends():
    just_before, just_after = (detectable_difference(n, 1.0, 7) for n in (20, 21))
    assert just_after < just_before < 1.06 * just_after


@pytest.mark.parametrize(("mean", "margin"), [(0.02, 0.0), (0.02, 0.006), (0.002, 0.01)])
def test_seeds_needed_decide_as_often_as_promised(mean, margin):
    n, arms, sd = seeds_needed(mean, 0.012, arms=5, margin=margin), 5, 0.012
    assert _decided(n, mean, sd, arms, margin) >= 0.77
    assert n == 6 or _decided(n - 2, mean, sd, arms, margin) < 0.83


def _decided(n, mean, sd, arms, margin):
    draws = np.random.default_rng(1).normal(mean, sd, (4_000, n))
    m, se = draws.mean(1), draws.std(1, ddof=1) / math.sqrt(n)
    if mean <= margin:
        return (np.abs(m) + stats.t.ppf(0.95, n - 1) * se < margin).mean()
    return (_found(draws, arms) & (m - stats.t.ppf(0.975, n - 1) * se > margin)).mean()


def test_seeds_needed_has_a_floor_and_an_end():
    assert seeds_needed(1.0, 0.001) == 6
    assert seeds_needed(0.01, 0.02, margin=0.01) is None
    assert seeds_needed(0.0, 1.0, margin=1e-4) is None
    assert seeds_needed(0.0, 0.0, margin=0.01) == 6


def test_any_number_of_seeds_has_an_answer():
    assert smallest_p(33_334, 7) == 0.0
    assert 0 < detectable_difference(33_334, 1.0, 7) < 0.05
