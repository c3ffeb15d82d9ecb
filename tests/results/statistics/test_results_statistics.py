"""Each statistic against numbers worked by hand or a few independent lines."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from results.statistics.estimates import (
    bca_interval,
    hedges_correction,
    holm,
    mean_interval,
    paired,
    paired_many,
    sign_flip_p,
    tost,
)

# Student's sleep data (Student 1908, table I): extra hours with the second drug minus those with the first. Textbooks
# give: mean 1.58, sd 1.2300, t = 4.0621 on 9 degrees of freedom, p = 0.002833, 95 % interval 0.7001 … 2.4599.
SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]


def test_t_test_and_interval_on_students_sleep_data():
    summary = paired(SLEEP)
    assert summary.n == 10
    assert summary.mean == pytest.approx(1.58)
    assert summary.sd == pytest.approx(1.229995, abs=1e-6)
    assert summary.p_t == pytest.approx(0.00283289, abs=1e-8)
    assert (summary.ci_low, summary.ci_high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)


def test_sign_flip_on_sleep_data_by_enumeration():
    # Nine differences are positive and one is zero: only the two signings that leave all nine alike are as extreme,
    # whichever sign the zero takes: 4 of 1024.
    assert paired(SLEEP).p_sign_flip == pytest.approx(4 / 1024)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=2, max_size=7))
def test_sign_flip_is_the_share_of_signings_at_least_as_extreme(values):
    sums = [abs(sum(s * v for s, v in zip(signs, values, strict=True))) for signs in _signings(len(values))]
    share = sum(total >= abs(sum(values)) for total in sums) / len(sums)
    assert sign_flip_p(np.array([values], float))[0] == pytest.approx(share)


def _signings(n):
    return itertools.product((1, -1), repeat=n)


def test_smallest_sign_flip_p_is_two_over_two_to_the_n():
    assert paired([1, 2, 3, 4, 5, 6]).p_sign_flip == pytest.approx(2 / 64)


def test_sign_flip_is_scipys():
    values = np.random.default_rng(0).lognormal(0, 1, (5, 9)) - 1.2
    theirs = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, axis=1, vectorized=True
    )
    assert sign_flip_p(values) == pytest.approx(np.minimum(theirs.pvalue, 1))


def test_sign_flip_beyond_exact_is_close_to_exact():
    # 18 equal differences of which 14 are positive: the exact p is a binomial sum.
    exact = 2 * sum(math.comb(18, k) for k in range(14, 19)) / 2**18
    values = np.array([[1.0] * 14 + [-1.0] * 4])
    assert sign_flip_p(values)[0] == pytest.approx(exact, abs=0.01)


def test_bca_by_its_definition():
    """Efron 1987: percentiles moved by the bias z0 and the acceleration a from the jackknife."""
    values = np.array(SLEEP)
    rng = np.random.default_rng(5)
    means = np.sort(rng.choice(values, (200_000, 10)).mean(1))
    normal = _normal()
    z0 = normal.inv_cdf((means < values.mean()).mean() + (means == values.mean()).mean() / 2)
    jackknife = np.array([np.delete(values, i).mean() for i in range(10)])
    away = jackknife.mean() - jackknife
    a = (away**3).sum() / (6 * (away**2).sum() ** 1.5)
    ends = []
    for z in (-1.959964, 1.959964):
        ends.append(np.quantile(means, normal.cdf(z0 + (z0 + z) / (1 - a * (z0 + z)))))
    assert bca_interval(values[None])[0] == pytest.approx(ends, abs=0.04)


def _normal():
    from statistics import NormalDist

    return NormalDist()


def test_hedges_correction_is_the_gamma_ratio_and_near_its_approximation():
    # df = 9: Γ(4.5)/(√4.5·Γ(4)) = 11.63173/(2.12132·6) = 0.913875; the usual approximation 1 − 3/(4·9 − 1) = 0.914286.
    assert hedges_correction(9) == pytest.approx(0.913875, abs=1e-6)
    assert hedges_correction(100) == pytest.approx(1 - 3 / 399, abs=1e-5)
    assert hedges_correction(1) == 0.0
    assert paired(SLEEP).hedges_g == pytest.approx(0.913875 * 1.58 / 1.229995, abs=1e-5)


def test_holm_by_hand():
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 gives 0.02, 0.03, 0.06, 0.04; never falling: 0.06 last.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_counts_what_is_missing_as_a_member_of_the_family():
    assert holm([0.01, None, 0.02]) == [pytest.approx(0.03), None, pytest.approx(0.04)]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_tost_by_hand():
    # n = 4, mean 1, sd 2, margin 4: t = (4 − 1)/(2/√4) = 3 on 3 degrees of freedom, one-sided p = 0.028834.
    values = [-1.0, 0.0, 1.0, 4.0]
    sd = np.std(values, ddof=1)
    scaled = (np.array(values) - 1) * 2 / sd + 1
    assert tost(paired(scaled), 4.0) == pytest.approx(0.028834, abs=1e-6)
    assert tost(paired(-scaled), 4.0) == pytest.approx(0.028834, abs=1e-6)
    assert tost(paired(scaled), 0.5) > 0.5


def test_mean_interval_by_hand():
    # 2.776445 is the 97.5 % point of t on 4 degrees of freedom; sd of 1…5 is √2.5.
    mean, low, high = mean_interval([1, 2, 3, 4, 5])
    assert mean == 3
    assert high - mean == pytest.approx(2.776445 * math.sqrt(2.5 / 5), abs=1e-6)
    assert low == pytest.approx(6 - high)
    assert mean_interval([2.0]) == (2.0, None, None)
    assert mean_interval([]) == (None, None, None)


class TestWhatTheTestsLeaveOpen:
    def test_no_pair(self):
        summary = paired([])
        assert (summary.n, summary.mean, summary.ci_low, summary.p_t, summary.p_sign_flip) == (
            0,
            None,
            None,
            None,
            None,
        )
        assert tost(summary, 1.0) is None

    def test_one_pair_has_a_mean_and_nothing_else(self):
        summary = paired([0.5])
        assert (summary.n, summary.mean) == (1, 0.5)
        assert (summary.sd, summary.ci_low, summary.bootstrap_low, summary.p_t, summary.hedges_g) == (None,) * 5

    def test_two_pairs_have_no_bootstrap_interval(self):
        summary = paired([0.5, 0.7])
        assert summary.ci_low is not None
        assert summary.bootstrap_low is None

    def test_two_pairs_have_no_hedges_g(self):
        assert [summary.hedges_g for summary in (paired([0.5, 0.7]), paired([0.0, 0.0]))] == [None, None]
        assert paired([0.5, 0.7, 0.6]).hedges_g == pytest.approx(6 * math.gamma(1) / math.gamma(0.5))

    def test_equal_differences_leave_the_t_test_to_the_exact_one(self):
        summary = paired([-0.01] * 8)
        assert (summary.ci_low, summary.ci_high, summary.bootstrap_low) == pytest.approx((-0.01,) * 3)
        assert summary.p_t == summary.p_sign_flip == pytest.approx(2 / 256)
        assert summary.hedges_g is None
        assert tost(summary, 0.02) == 0.0
        assert tost(summary, 0.005) == 1.0

    def test_identical_trials_tie_whatever_the_margin(self):
        summary = paired([0.0] * 8)
        assert (summary.mean, summary.p_t, summary.p_sign_flip, summary.hedges_g) == (0.0, 1.0, 1.0, 0.0)
        assert tost(summary, 0.0) == 0.0

    def test_ties_in_size_are_counted_exactly(self):
        # 0.1 + 0.2 is not 0.3 in binary, yet the sum stands for zero: every signing is as extreme.
        assert sign_flip_p(np.array([[0.1, 0.2, -0.3]]))[0] == 1.0

    def test_infinite_differences_are_refused(self):
        with pytest.raises(ValueError, match="finite"):
            paired([0.1, math.inf])


def test_rows_of_different_length_keep_their_places():
    rows = [SLEEP, [0.5], SLEEP[:6], [], SLEEP]
    together = paired_many(rows)
    assert together == [paired(row) for row in rows]


def test_equal_input_gives_equal_numbers():
    assert paired(SLEEP) == paired(SLEEP)
