"""Which word a row gets, case by case."""

from types import SimpleNamespace

import numpy as np
import pytest

from results.statistics.estimates import paired
from results.statistics.verdict import Family, verdicts


def spread(mean, sd, n=10):
    """n differences with exactly this mean and standard deviation."""
    values = np.linspace(-1, 1, n)
    return mean + sd * values / values.std(ddof=1)


def one(differences, margin=0.005, others=0, blunt=False, **options):
    """The decision on one arm, with its words, in a family with `others` arms that show nothing."""
    options.setdefault("planned", len(differences))
    nothing = [Family(paired(spread(0, 1)), planned=10) for _ in range(others)]
    verdict = verdicts([Family(paired(differences), **options), *nothing], margin, blunt=blunt)[0]
    return SimpleNamespace(**vars(verdict.decision), words=verdict.words, seeds_to_decide=verdict.seeds_to_decide)


@pytest.mark.parametrize(
    ("mean", "sd", "word"),
    [
        (-0.02, 0.004, "better"),
        (0.02, 0.004, "worse"),
        (0.001, 0.002, "tie"),
        (-0.006, 0.004, "undecided"),  # certainly lower, not certainly beyond the margin
        (0.0, 0.02, "undecided"),  # nothing is known
    ],
)
def test_words(mean, sd, word):
    assert one(spread(mean, sd)).word == word


def test_a_certain_difference_inside_the_margin_is_a_tie():
    verdict = one(spread(-0.002, 0.0005))
    assert verdict.p_adjusted < 1e-5
    assert verdict.word == "tie"


def test_holm_is_over_the_family():
    differences = spread(-0.02, 0.02)
    assert one(differences, margin=0).word == "better"
    assert one(differences, margin=0, others=19).word == "undecided"
    assert one(differences, others=19).p_adjusted == pytest.approx(20 * paired(differences).p_t)


def test_undecided_says_how_many_seeds_would_decide():
    verdict = one(spread(-0.01, 0.01))
    assert verdict.word == "undecided"
    assert verdict.seeds_to_decide > 10
    assert f"about {verdict.seeds_to_decide} seeds" in verdict.words


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_fewer_than_six_pairs_are_indicative_however_clear(n):
    verdict = one([-1.0 - 0.001 * i for i in range(n)])
    assert verdict.word == "indicative"
    assert "needs 6" in verdict.words


def test_six_pairs_can_be_judged():
    assert one(spread(-0.02, 0.002, 6), others=7).word == "better"


class TestDisagreement:
    def test_the_exact_test_can_overrule_the_t_test(self):
        # Six pairs with one of another sign: at best 4 of 64 signings are as extreme, p = 0.0625, while t is sure.
        differences = [-0.0300, -0.0301, -0.0299, -0.0302, -0.0298, 0.0010]
        assert paired(differences).p_sign_flip == pytest.approx(4 / 64)
        assert paired(differences).p_t < 0.01
        verdict = one(differences, margin=0.0)
        assert verdict.disagreement
        assert verdict.word == "undecided"
        assert "disagree" in verdict.words

    def test_only_where_it_could_have_reached_five_percent(self):
        # With eight arms and six seeds the adjusted exact p is 0.25 at best: no disagreement, the t test decides.
        verdict = one(spread(-0.02, 0.0005, 6), others=7)
        assert verdict.p_sign_flip_adjusted == pytest.approx(8 * 2 / 64)
        assert not verdict.disagreement
        assert verdict.word == "better"

    def test_unadjusted_where_only_that_could_have_reached_it(self):
        differences = [-0.0300, -0.0301, -0.0299, -0.0302, -0.0298, 0.0001]
        verdict = one(differences, margin=0.0, others=7)
        assert verdict.p_adjusted < 0.05
        assert verdict.disagreement
        assert verdict.word == "undecided"
        assert "(unadjusted p 0.062)" in verdict.words  # 4 of 64

    def test_the_t_test_alone_cannot_withhold_what_the_exact_test_shows(self):
        # All of one sign, one of them huge: exact p 2/1024, t sees only the spread.
        differences = [-0.01] * 5 + [-0.011] * 4 + [-1.0]
        assert paired(differences).p_t > 0.05
        verdict = one(differences)
        assert verdict.disagreement
        assert verdict.word == "undecided"


class TestDivergence:
    def test_an_arm_with_a_diverged_seed_cannot_be_better(self):
        verdict = one(spread(-0.02, 0.002, 9), planned=10, diverged=1)
        assert verdict.word == "undecided"
        assert "1 of 10 seeds diverged" in verdict.words

    def test_nor_can_it_tie_but_it_can_be_worse(self):
        assert one(spread(0.0, 0.001, 9), planned=10, diverged=1).word == "undecided"
        assert one(spread(0.02, 0.002, 9), planned=10, diverged=1).word == "worse"

    def test_no_number_of_seeds_is_named_where_none_would_decide(self):
        diverging = one(spread(-0.012, 0.02, 9), planned=10, diverged=1)
        assert diverging.seeds_to_decide is None
        assert "can neither be better nor tie" in diverging.words
        within = one(spread(0.002, 0.02, 8), blunt=True)
        assert within.seeds_to_decide is None
        assert "no number of seeds makes that a tie on a blunt task" in within.words
        assert one(spread(0.002, 0.02, 8)).seeds_to_decide is not None

    def test_what_it_is_compared_with_is_treated_alike(self):
        """Whichever of two is named first, the other way round the same is said."""
        ahead, behind = spread(-0.02, 0.002, 8), spread(0.02, 0.002, 8)
        assert one(ahead, planned=10, diverged=2).word == one(behind, planned=10, reference_diverged=2).word
        assert one(behind, planned=10, diverged=2).word == "worse"
        assert one(ahead, planned=10, reference_diverged=2).word == "better"
        assert one(spread(0.0, 0.001, 9), planned=10, reference_diverged=1).word == "undecided"
        open_ = one(behind, planned=10, reference_diverged=2)
        assert open_.seeds_to_decide is None
        assert open_.words.startswith("nothing can be worse than the baseline, or tie with it, while that diverges")
        lost = {"reference_planned": 10, "reference_diverged": 10, "reference_finished": 0}
        assert one([], planned=10, **lost).word == "better"
        assert one([], planned=10, **lost).words.endswith("every one of the baseline's did (10 of 10)")
        assert one([], planned=10, finished=0, **lost).word == "indicative"
        assert one([], planned=10, diverged=1, **lost).word == "indicative"

    def test_all_seeds_diverged(self):
        assert one([], planned=10, diverged=10).word == "worse"
        assert one([], planned=5, diverged=5).word == "indicative"
        assert one([], planned=10, diverged=10, reference_diverged=10).word == "indicative"
        assert one([], planned=10, diverged=10, reference_finished=0).word == "indicative"

    def test_the_baselines_divergence_is_said(self):
        assert "3 of the baseline's diverged" in one(spread(-0.02, 0.002, 7), planned=10, reference_diverged=3).words


def test_equal_differences():
    assert one([-0.01] * 8, margin=0.005).word == "better"
    assert one([-0.01] * 8, margin=0.05).word == "tie"
    assert one([0.0] * 8, margin=0.0).word == "tie"
