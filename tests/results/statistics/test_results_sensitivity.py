"""Gain, spread and resolution against calculations by hand and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from results.statistics.power import resolution
from results.statistics.sensitivity import gain, judge, leave_one_out, spread, summary
from results.statistics.simulation import LAWS, draw_suites


def test_each_seed_is_measured_on_the_arm_that_leads_on_the_others():
    # Without seed 0 the second arm leads (5 against 2), without seed 1 or 2 the first: 9 + 2 and 9 + 2 against 0 + 5.
    ahead = {"one": {0: 9.0, 1: 2.0, 2: 2.0}, "two": {0: 0.0, 1: 5.0, 2: 5.0}}
    found = gain(ahead)
    assert found.values_N == (0.0, 2.0, 2.0)
    assert found.arm == "one"  # 13/3 against 10/3


def test_the_choice_against_a_plain_loop():
    rng = np.random.default_rng(0)
    ahead = rng.normal(size=(7, 9))
    ahead[2, 3] = ahead[4, 0] = np.nan
    expected = []
    for seed in range(9):
        means = {}
        for arm in range(7):
            others = [ahead[arm, s] for s in range(9) if s != seed and not math.isnan(ahead[arm, s])]
            if not math.isnan(ahead[arm, seed]):
                means[arm] = sum(others) / len(others)
        expected.append(ahead[max(means, key=means.get), seed])
    assert leave_one_out(ahead) == pytest.approx(expected)


def test_one_seed_cannot_choose_and_measure():
    assert gain({"one": {0: 1.0}}).values_N == ()
    assert summary(gain({"one": {0: 1.0}}), 0.01, None)["gain"]["mean"] is None
    assert gain({}).values_N == ()


def test_the_interval_is_the_t_interval_of_the_chosen_values():
    ahead = {"far": {0: 1.0, 1: 1.2, 2: 1.4, 3: 1.3}, "near": {0: 0.1, 1: 0.0, 2: 0.2, 3: 0.1}}
    found = summary(gain(ahead), 0.01, 0.02)
    values = list(ahead["far"].values())
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert found["gain"] == pytest.approx({"mean": 1.225, "ci_low": low, "ci_high": high, "arm": "far", "n": 4})
    assert (found["spread"], found["resolution"], found["word"]) == (0.01, 0.02, "fit")


def test_choosing_does_not_flatter():
    """Sixteen arms level with the twin: the plain best looks half a deviation ahead, the measured gain does not."""
    rng = np.random.default_rng(1)
    plain, measured = [], []
    for _ in range(1000):
        ahead = (rng.normal(size=(16, 6)) - rng.normal(size=(1, 6))) / math.sqrt(2)
        plain.append(ahead.mean(1).max())
        measured.append(leave_one_out(ahead).mean())
    assert np.mean(plain) > 0.4
    assert abs(np.mean(measured)) < 0.05


@pytest.mark.parametrize(
    ("mean", "deviation", "word"),
    [(0.15, 0.015, "fit"), (0.149, 0.001, "blunt"), (0.3, 0.031, "blunt"), (None, 0.01, None), (0.3, None, None)],
)
def test_fit_and_blunt(mean, deviation, word):
    assert judge(mean, deviation) == word


def test_spread_is_the_median_of_what_is_known():
    assert spread([0.03, None, 0.01, 0.02]) == 0.02
    assert spread([None]) is None


@pytest.mark.parametrize(("seeds", "margin"), [(10, 0.0), (10, 0.3), (20, 1.0)])
def test_resolution_is_what_four_of_five_boards_find(seeds, margin):
    """The verdict itself, on simulated boards whose first arm is better by just so much."""
    effect = resolution(seeds, 1.0, 7, margin)
    drawn = draw_suites(LAWS["normal"], 1500, 7, seeds, effect=-effect)
    found = np.mean([suite[0].word == "better" for suite in drawn.decisions(margin)])
    assert found == pytest.approx(0.8, abs=0.04)


def test_resolution_scales_with_the_spread_and_needs_six_seeds():
    assert resolution(10, 0.02, 7, 0.01) == pytest.approx(0.02 * resolution(10, 1.0, 7, 0.5), rel=1e-3)
    assert resolution(5, 0.02, 7, 0.01) is None
    assert resolution(10, 0.0, 7, 0.01) == 0.01
