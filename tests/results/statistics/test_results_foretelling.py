"""Which measure foretells the loss: counting pairs by hand, against scipy's τ, and intervals against a plain loop."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from results.statistics.foretelling import concordance, foretell


def test_pairs_are_counted_by_hand():
    assert concordance([1, 2, 3], [10, 30, 20]) == pytest.approx(2 / 3)
    assert concordance([1, 1, 3], [10, 30, 20]) == pytest.approx((0.5 + 1 + 0) / 3)  # a tie says nothing
    assert concordance([3, 2, 1], [1, 2, 3]) == 0
    assert concordance([0.5, 0.5], [1, 2]) == 0.5


def test_without_ties_it_is_kendalls_tau_from_0_to_1():
    rng = np.random.default_rng(1)
    measure, loss = rng.normal(size=15), rng.normal(size=15)
    assert concordance(measure, loss) == pytest.approx((stats.kendalltau(measure, loss).statistic + 1) / 2)


def one_by_one(measure, loss, drawn):
    """The share among settings drawn with replacement, pair by pair; the same setting twice is no pair."""
    agreed = []
    for i, j in itertools.combinations(drawn, 2):
        if i != j:
            product = (measure[i] - measure[j]) * (loss[i] - loss[j])
            agreed.append(1 if product > 0 else 0 if product < 0 else 0.5)
    return np.mean(agreed)


def test_intervals_are_a_bootstrap_over_settings():
    rng = np.random.default_rng(2)
    loss = rng.normal(size=16)
    good, poor = loss + 1.0 * rng.normal(size=16), rng.normal(size=16)
    told = foretell({"good": good, "poor": poor}, loss, ["rule"] * 16, "good")
    drawn = [rng.integers(16, size=16) for _ in range(3000)]
    shares = {name: [one_by_one(own, loss, d) for d in drawn] for name, own in (("good", good), ("poor", poor))}
    for name, own in shares.items():
        found = told[name].share
        assert (found.low, found.high) == pytest.approx(np.percentile(own, (2.5, 97.5)), abs=0.03)
    ahead = told["poor"].ahead
    between = np.subtract(shares["good"], shares["poor"])
    assert ahead.mean == pytest.approx(told["good"].share.mean - told["poor"].share.mean)
    assert (ahead.low, ahead.high) == pytest.approx(np.percentile(between, (2.5, 97.5)), abs=0.04)
    assert told["good"].ahead is None


def test_pairs_of_one_rule_and_of_different_rules_stand_apart():
    measure, loss, rules = [1, 2, 3, 4], [1, 2, 4, 3], ["a", "a", "b", "b"]
    told = foretell({"m": measure}, loss, rules, "m")["m"]
    assert (told.same_rule, told.other_rules) == (0.5, 1.0)
    assert foretell({"m": measure}, loss, list("abcd"), "m")["m"].same_rule is None
    assert foretell({"m": measure}, loss, list("aaaa"), "m")["m"].other_rules is None


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="2 measured and 3 losses"):
        concordance([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="not finite"):
        concordance([1, np.nan], [1, 2])
    with pytest.raises(ValueError, match="reference: 'x'; expected one of m"):
        foretell({"m": [1, 2]}, [1, 2], ["a", "b"], "x")


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_the_true_share_is_in_the_interval(correlation):
    """Of normal pairs it is ½ + arcsin(ρ)/π (Kendall, Rank Correlation Methods)."""
    rng, held, suites = np.random.default_rng(5), 0, 200
    for _ in range(suites):
        measure = rng.normal(size=21)
        loss = correlation * measure + np.sqrt(1 - correlation**2) * rng.normal(size=21)
        share = foretell({"m": measure}, loss, ["rule"] * 21, "m")["m"].share
        held += share.low <= 0.5 + np.arcsin(correlation) / np.pi <= share.high
    assert held / suites > 0.92
