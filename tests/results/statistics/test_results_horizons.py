"""Margins and savings in tokens against power laws that are known, and against other ways to the same interval."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from results.statistics.horizons import Curve, Horizons, jackknife, longer, token_margin, tokens_saved

TOKENS = np.array([0.5, 1.0, 2.0])


def power_law(floor, scale, exponent):
    return lambda tokens: floor + scale * tokens**exponent


def horizons_of(law, seeds=6, noise=0.0, rng=None):
    half, whole, double = (
        {seed: law(tokens) + (rng.normal(0, noise) if rng is not None else 0.0) for seed in range(seeds)}
        for tokens in TOKENS
    )
    return Horizons.of(half, whole, double), whole


@pytest.mark.parametrize("exponent", [-0.8, -0.3, -1e-12, 0.4])
def test_the_curve_is_the_power_law_through_three_horizons(exponent):
    law = power_law(2.0, 0.7 if exponent < 0 else -0.7, exponent)
    if abs(exponent) < 1e-9:
        law = lambda tokens: 3.0 - 0.2 * math.log2(tokens)  # noqa: E731 - the limit: a straight line over log tokens
    curve = horizons_of(law)[0].curve
    for tokens in (0.25, 0.7, 1.02, 1.9, 5.0):
        assert curve.difference(math.log2(tokens)) == pytest.approx(law(tokens) - law(1.0))
        assert curve.doublings(law(tokens) - law(1.0)) == pytest.approx(math.log2(tokens), abs=1e-9)


def test_the_margin_is_what_two_percent_more_tokens_bring():
    law = power_law(2.5, 0.6, -0.5)
    margin = token_margin(horizons_of(law)[0])
    assert margin["value"] == pytest.approx(law(1.0) - law(1.02))
    assert (margin["source"], margin["more_tokens"], margin["n"]) == ("tokens", 0.02, 6)
    assert margin["half"] == pytest.approx(law(0.5) - law(1.0))
    assert margin["double"] == pytest.approx(law(1.0) - law(2.0))


def test_tokens_saved_by_solving_for_the_baseline():
    law = power_law(2.5, 0.6, -0.5)
    horizons, whole = horizons_of(law)
    for better in (0.1, -0.05, 0.0):
        saved = tokens_saved(dict.fromkeys(whole, -better), horizons)
        needed = optimize.brentq(lambda tokens, wanted: law(tokens) - wanted, 0.01, 100, args=(law(1.0) - better,))
        assert saved["mean"] == pytest.approx(needed - 1, abs=1e-9)
        assert saved["ci_low"] == pytest.approx(saved["mean"])  # no noise, no width
        assert saved["extrapolated"] is False


def test_beyond_the_horizons_it_is_said():
    law = power_law(2.5, 0.6, -0.5)
    horizons, whole = horizons_of(law)
    far = tokens_saved(dict.fromkeys(whole, law(3.0) - law(1.0)), horizons)
    assert far["mean"] == pytest.approx(2.0)
    assert far["extrapolated"] is True
    assert tokens_saved(dict.fromkeys(whole, law(0.4) - law(1.0)), horizons)["extrapolated"] is True
    never = tokens_saved(dict.fromkeys(whole, -0.7), horizons)  # below the floor that the baseline tends to
    assert never == {"mean": None, "ci_low": None, "ci_high": None, "extrapolated": True, "bound": {"over": 1.0}}


def test_beyond_the_horizons_the_bound_is_of_time_where_time_is_meant():
    """The baseline needs more than twice its tokens: at twice the time a token, more than the arm's own time."""
    law = power_law(2.5, 0.6, -0.5)
    horizons, whole = horizons_of(law)
    longer_than = dict.fromkeys(whole, law(2.2) - law(1.0))
    assert longer(longer_than, horizons, dict.fromkeys(whole, 1.0))["bound"] == {"over": pytest.approx(0.0)}
    assert longer(longer_than, horizons, dict.fromkeys(whole, math.log2(3)))["bound"] == {"over": pytest.approx(-1 / 3)}
    shorter_than = dict.fromkeys(whole, law(0.4) - law(1.0))
    assert longer(shorter_than, horizons, None)["bound"] == {"under": pytest.approx(-0.5)}
    assert longer(shorter_than, horizons, dict.fromkeys(whole, -2.0))["bound"] == {"under": pytest.approx(1.0)}


def test_time_is_tokens_where_steps_cost_the_same_and_less_where_they_cost_more():
    law = power_law(2.5, 0.6, -0.5)
    horizons, whole = horizons_of(law)
    level = dict.fromkeys(whole, law(1.5) - law(1.0))
    assert longer(level, horizons, dict.fromkeys(whole, 0.0))["mean"] == pytest.approx(0.5)
    # The baseline needs 1.5 times its tokens; at three times the time a token, the arm needs twice as long as that.
    assert longer(level, horizons, dict.fromkeys(whole, math.log2(3)))["mean"] == pytest.approx(-0.5)
    assert longer(level, horizons, {}) is None


def test_the_interval_is_near_the_delta_method_s():
    rng = np.random.default_rng(3)
    horizons, whole = horizons_of(power_law(2.5, 0.6, -0.5), seeds=40, noise=0.01, rng=rng)
    differences = {seed: -0.08 + rng.normal(0, 0.01) for seed in whole}
    saved = tokens_saved(differences, horizons)
    columns = np.array([[differences[s], horizons.half[s], horizons.double[s]] for s in whole])
    d, e0, e1 = columns.mean(0)
    rho, inside = math.log(e1 / e0), 1 - d * (1 / e0 - 1 / e1)
    gradient = np.array([
        -(1 / e0 - 1 / e1) / (inside * rho),
        d / (e0**2 * inside * rho) + math.log(inside) / (rho**2 * e0),
        -d / (e1**2 * inside * rho) - math.log(inside) / (rho**2 * e1),
    ])  # fmt: skip
    error = math.sqrt(gradient @ np.cov(columns.T) @ gradient / 40)
    x, half = math.log2(1 + saved["mean"]), stats.t.ppf(0.975, 39) * error
    assert x == pytest.approx(math.log(inside) / rho)
    assert math.log2(1 + saved["ci_low"]) == pytest.approx(x - half, abs=0.1 * half)
    assert math.log2(1 + saved["ci_high"]) == pytest.approx(x + half, abs=0.1 * half)


def test_the_jackknife_of_a_mean_is_the_t_interval():
    values = dict(enumerate(np.random.default_rng(0).normal(size=8)))
    mean, low, high = jackknife(lambda m: m, [values])
    expected = stats.ttest_1samp(list(values.values()), 0).confidence_interval()
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert mean == pytest.approx(np.mean(list(values.values())))


def test_fewer_horizon_seeds_than_pairs_widen_the_interval():
    rng = np.random.default_rng(5)
    horizons, whole = horizons_of(power_law(2.5, 0.6, -0.5), seeds=10, noise=0.01, rng=rng)
    differences = {seed: -0.05 + rng.normal(0, 0.01) for seed in whole}
    few = Horizons(*({s: v for s, v in part.items() if s < 3} for part in (horizons.half, horizons.double)))
    full, part = tokens_saved(differences, horizons), tokens_saved(differences, few)
    assert part["ci_high"] - part["ci_low"] > 1.5 * (full["ci_high"] - full["ci_low"])
    one = Horizons({0: 0.2}, {0: 0.1})
    assert tokens_saved(differences, one)["ci_low"] is None
    assert tokens_saved(differences, one)["mean"] is not None


def test_training_that_does_not_help_says_nothing():
    worse = Horizons(dict.fromkeys(range(6), 0.1), dict.fromkeys(range(6), -0.01))
    assert token_margin(worse) is None
    assert tokens_saved({0: -0.1, 1: -0.1}, worse) is None
    assert Horizons({}, {}).curve is None


def test_only_seeds_of_all_three_horizons_are_paired():
    found = Horizons.of({0: 4.0, 1: 4.1, 2: 4.2}, {0: 3.5, 1: 3.6}, {1: 3.2, 2: 3.1})
    assert found.half == pytest.approx({1: 0.5})
    assert found.double == pytest.approx({1: 0.4})


@pytest.mark.parametrize("ratio", [0.7, 1.5])
def test_the_interval_covers(ratio):
    rng = np.random.default_rng(11)
    curve, inside = Curve(0.12 / ratio, 0.12), 0
    for _ in range(400):
        whole, half, double, arm = rng.normal(0, 0.015 / math.sqrt(2), (4, 8))
        horizons = Horizons.of(*(dict(enumerate(v)) for v in (curve.half + half, whole, double - curve.double)))
        differences = dict(enumerate(-0.06 + arm - whole))
        saved = tokens_saved(differences, horizons)
        inside += saved["ci_low"] <= 2 ** curve.doublings(-0.06) - 1 <= saved["ci_high"]
    assert inside / 400 == pytest.approx(0.95, abs=0.03)
