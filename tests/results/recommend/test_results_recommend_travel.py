"""How rankings travel: τ against scipy's, bounds against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from results.recommend.travel import agreement, word


def places(first, second, noise=0.001, seeds=8, salt=0):
    rng = np.random.default_rng(salt)

    def sample(means):
        return {f"arm{i}": dict(enumerate(m + noise * rng.standard_normal(seeds))) for i, m in enumerate(means)}

    return sample(first), sample(second)


def test_the_same_order_far_apart_is_known_to_be_the_same():
    found = agreement(*places([0, 1, 2, 3, 4, 5], [0, 2, 3, 7, 8, 9]))
    assert found.tau == pytest.approx(1.0)
    assert (found.low, found.high, found.word) == (1.0, 1.0, "high")
    assert (found.arms, found.pairs, found.same, found.opposite, found.open) == (6, 15, 15, 0, 0)


def test_orders_are_counted_pair_by_pair():
    first, second = [0, 1, 2, 3, 4], [4, 1, 2, 3, 0]
    found = agreement(*places(first, second))
    concordant = sum((first[i] - first[j]) * (second[i] - second[j]) > 0 for i in range(5) for j in range(i))
    assert found.same == concordant
    assert found.opposite == 10 - concordant
    assert found.low == found.high == pytest.approx(stats.kendalltau(first, second).statistic)
    assert found.word == "low"


def test_pairs_that_seeds_leave_open_widen_both_ends():
    found = agreement(*places([0, 0, 2, 3, 4], [0, 0, 2, 3, 4], noise=0.01))
    assert found.open == 1  # the first two, which do not differ
    assert (found.low, found.high) == (pytest.approx(8 / 10), 1.0)
    noisy = agreement(*places([0, 1, 2, 3, 4], [0, 1, 2, 3, 4], noise=100.0))
    assert noisy.word == "open"
    assert noisy.low <= noisy.tau <= noisy.high


def test_few_arms_in_common_are_no_ranking():
    first, second = places([0, 1, 2, 3, 4], [0, 1, 2, 3, 4])
    assert agreement(first, {arm: own for arm, own in second.items() if arm != "arm0"}) is None
    short = {arm: {seed: loss for seed, loss in own.items() if seed < 5} for arm, own in second.items()}
    assert agreement(first, short) is None


def test_the_words():
    assert [word(*ends) for ends in ((0.5, 1), (-0.1, 0.4), (0.1, 0.9), (-0.1, 0.9))] == [
        "high",
        "low",
        "positive",
        "open",
    ]


@pytest.mark.slow
def test_the_true_tau_is_in_the_interval():
    from results.recommend.coverage import tau_coverage

    for relation in (0.0, 1.0):
        assert tau_coverage(6, 2.0, relation, suites=100)[0] > 0.92
