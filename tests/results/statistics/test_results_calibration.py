"""The promises, simulated. The ordinary test is a small sample of the slow ones."""

import numpy as np
import pytest
from click.testing import CliRunner

from results.statistics import calibration
from results.statistics.calibration import (
    coverage,
    false_ties,
    false_ties_beside_an_estimate,
    false_verdicts,
    power,
    sampling_error,
)
from results.statistics.simulation import LAWS, draw_suites


@pytest.mark.parametrize("law", LAWS)
def test_laws_have_mean_zero_and_differences_variance_one(law):
    rng = np.random.default_rng(0)
    noise = LAWS[law]
    drawn = noise.arm(rng, (2_000_000,)) - noise.baseline(rng, (2_000_000,))
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    assert drawn.var() == pytest.approx(1, abs=0.15)  # the fourth moment of some is huge or infinite


def test_the_skewed_differences_are_skewed():
    rng = np.random.default_rng(0)
    noise = LAWS["skewed-differences"]
    drawn = noise.arm(rng, (2_000_000,)) - noise.baseline(rng, (2_000_000,))
    assert (drawn**3).mean() > 3


def test_arms_share_the_baseline_and_only_the_first_has_the_effect():
    suites = draw_suites(LAWS["normal"], 400, 3, 6, effect=5.0)
    means = np.array([[arm.mean for arm in suite] for suite in suites.arms_SA])
    assert means.mean(0) == pytest.approx([5, 0, 0], abs=0.1)
    assert np.corrcoef(means.T)[0, 1] == pytest.approx(0.5, abs=0.12)
    assert (suites.aa_spread_S**2).mean() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("law", LAWS)
def test_false_verdicts_in_small(law):
    assert false_verdicts(law, 8, [None], suites=200)[0] <= 0.05 + sampling_error(0.05, 200)


def test_ties_beside_an_estimated_margin_against_a_simulation_of_its_own():
    """Two one-sided t tests at 5 % inside ± the standard deviation of six A/A differences, written out."""
    rng = np.random.default_rng(1)
    noise, other = rng.normal(size=(2, 4000, 6)) * np.sqrt(0.5)
    again = rng.normal(size=(4000, 6)) * np.sqrt(0.5)
    differences, margin = noise - other + 1.0, (again - other).std(1, ddof=1)
    error = differences.std(1, ddof=1) / np.sqrt(6)
    quantile = 2.015048  # t(0.95, 5)
    ties = (differences.mean(1) + quantile * error < margin) & (differences.mean(1) - quantile * error > -margin)
    assert false_ties_beside_an_estimate("normal", 6, suites=2000) == pytest.approx(ties.mean(), abs=0.02)
    assert ties.mean() > 0.05


def test_the_page_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "SEEDS", (6,))
    monkeypatch.setattr(calibration, "COVERAGE_SEEDS", (6,))
    result = CliRunner().invoke(calibration.main, [str(tmp_path / "page.md"), "--suites", "20"])
    assert result.exit_code == 0, result.output
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert text.count("| normal |") == 6
    assert "20 simulated suites" in text


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("seeds", calibration.SEEDS)
class TestPromises:
    """2,000 suites each."""

    def test_at_most_five_percent_of_suites_have_a_false_verdict(self, law, seeds):
        default, none, _, half = false_verdicts(law, seeds)
        limit = 0.05 + sampling_error(0.05, calibration.SUITES)
        assert default <= limit
        assert half <= limit
        assert none <= (
            0.15 if law == "skewed-differences" else limit
        )  # the limit of what can be promised: see the page

    def test_the_promised_power(self, law, seeds):
        _, plain, beyond = power(law, seeds)
        assert plain >= 0.8 - 2 * sampling_error(0.8, calibration.SUITES)
        assert beyond >= 0.8

    def test_false_ties(self, law, seeds):
        assert false_ties(law, seeds) <= (0.13 if law == "skewed-differences" else 0.05 + sampling_error(0.05, 1000))


@pytest.mark.slow
@pytest.mark.parametrize("seeds", calibration.COVERAGE_SEEDS)
def test_coverage(seeds):
    for law in LAWS:
        t, bootstrap = coverage(law, seeds)
        assert t >= (0.91 if law == "skewed-differences" else 0.95 - sampling_error(0.95, calibration.SUITES))
        assert bootstrap < t  # it is too narrow for few seeds, and the page says so
    assert coverage("normal", seeds)[1] >= {6: 0.84, 10: 0.88, 20: 0.90, 50: 0.92}[seeds]
