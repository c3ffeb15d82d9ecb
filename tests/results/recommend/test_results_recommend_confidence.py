"""Multiple comparisons with the best, against scipy's one-sided intervals taken pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from results.recommend.confidence import confidence_set, sign_flip_p


def sample(levels, seeds=8, noise=1.0, salt=0):
    rng = np.random.default_rng(salt)
    return {arm: dict(enumerate(level + noise * rng.standard_normal(seeds))) for arm, level in levels.items()}


def one_sided(a, b, alternative, level):
    """scipy's bound of mean(a − b)."""
    interval = stats.ttest_rel(list(a.values()), list(b.values()), alternative=alternative).confidence_interval(level)
    return interval.low if alternative == "greater" else interval.high


def test_bounds_are_the_largest_of_all_pairs():
    losses = sample({"a": 0.0, "b": 0.3, "c": 2.0, "d": 5.0})
    for standing in confidence_set(losses):
        own, others = losses[standing.arm], [v for arm, v in losses.items() if arm != standing.arm]
        assert standing.low == pytest.approx(max(one_sided(own, other, "greater", 1 - 0.05 / 3) for other in others))
        assert standing.high == pytest.approx(max(one_sided(own, other, "less", 0.95) for other in others))
        means = [np.mean(list(own.values())) - np.mean(list(other.values())) for other in others]
        assert standing.mean == pytest.approx(max(means))
        assert (standing.word == "behind") == (standing.low > 0)


def test_the_set_holds_who_is_not_shown_worse_and_the_nearest_come_first():
    losses = sample({"far": 9.0, "best": 0.0, "near": 0.05, "middle": 4.0}, noise=0.5)
    standings = confidence_set(losses)
    words = [(standing.arm, standing.word) for standing in standings]
    assert {arm for arm, word in words[:2]} == {"best", "near"}
    assert words[2:] == [("middle", "behind"), ("far", "behind")]
    assert all(standing.worse_than in ("best", "near") for standing in standings[2:])


def test_what_all_arms_share_on_a_seed_is_taken_out():
    losses = sample({"a": 0.0, "b": 1.0}, noise=0.1)
    shifted = {arm: {seed: loss + 100 * seed for seed, loss in own.items()} for arm, own in losses.items()}
    for plain, moved in zip(confidence_set(losses), confidence_set(shifted), strict=True):
        assert (plain.arm, plain.word) == (moved.arm, moved.word)
        assert plain.low == pytest.approx(moved.low)


def test_only_seeds_that_both_have_make_a_pair():
    losses = sample({"a": 0.0, "b": 5.0})
    losses["b"] |= {seed: -1000.0 for seed in range(100, 104)}  # seeds that a never ran
    assert [standing.word for standing in confidence_set(losses)] == ["in the set", "behind"]


def test_too_few_seeds_and_divergence_are_no_evidence():
    losses = sample({"a": 0.0, "b": 0.1, "wild": -5.0}) | sample({"short": -5.0}, seeds=5)
    found = {standing.arm: standing for standing in confidence_set(losses, diverged={"wild"})}
    assert found["wild"].word == "diverged"
    assert found["short"].word == "too few seeds"
    assert found["short"].low is None
    assert found["a"].against == "b"  # compared with nobody else
    alone = confidence_set(sample({"a": 0.0}))
    assert [standing.word for standing in alone] == ["too few seeds"]


def test_the_exact_test_has_a_veto():
    difference = np.array([0.1, 0.1, 0.1, 0.1, 0.1, 0.1])  # equal: the t bound would be certain
    assert sign_flip_p(difference) == pytest.approx(1 / 64)
    same = {"a": dict(enumerate([1.0] * 6)), "b": dict(enumerate([1.0] * 6))}
    assert [standing.word for standing in confidence_set(same)] == ["in the set", "in the set"]
    wild = np.array([1.0, 1.1, 0.9, 1.0, 1.0, -0.1])
    expected = stats.permutation_test(
        (wild,), np.mean, permutation_type="samples", alternative="greater", n_resamples=np.inf
    ).pvalue
    assert sign_flip_p(wild) == pytest.approx(expected)


def test_a_loss_that_is_no_number_is_an_error():
    with pytest.raises(ValueError, match=r"losses: a, seed 0 is nan; expected a finite number"):
        confidence_set({"a": {0: float("nan")}, "b": {0: 1.0}})


@pytest.mark.slow
def test_the_best_stays_in_the_set():
    from results.recommend.coverage import set_coverage

    for law in ("normal", "only the best skewed"):
        kept, above, below, _ = set_coverage(law, 6, 0.0, suites=200)
        assert min(kept, above, below) > 0.92
