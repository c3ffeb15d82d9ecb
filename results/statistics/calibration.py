"""Do the statistics keep their promises? Simulated; `python -m results.statistics.calibration` writes the page.

Everything goes through the code that makes the boards. Random numbers are fixed, so the page can be made again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from results.statistics.estimates import bca_interval, paired_many
from results.statistics.power import ALPHA, detectable_difference
from results.statistics.simulation import LAWS, draw_suites
from results.text import table

SUITES = 2_000
ARMS = 7  # compared with the baseline: eight strategies in all
SEEDS = (6, 10, 20)
MARGINS: tuple[float | None, ...] = (None, 0.0, 0.25, 0.5)
SPREADS = (1.0, 2.0)  # of the A/A arm, over the sd of an arm's difference
COVERAGE_SEEDS = (6, 10, 20, 50)
WRONG = ("better", "worse")


READING = """\
The A/A arm's spread as the margin keeps the promise under every law, strongly skewed differences included, and so does
any margin of half a standard deviation or more. A margin in tokens, the default where a suite has horizons, may be less
than that: it promises what the column of its share of the sd shows. Without a margin the promise holds where arms that
do not differ in the mean do not differ in shape either, which is what "the strategy changes nothing" means. Where they
have equal means but differences of strong skewness (here 4.4), no test of ten numbers can know: too many verdicts are
false. A margin of zero is for those who know that their differences are near symmetric; the board warns where a
verdict rests on a margin under half a standard deviation.
""".splitlines()

TIES_READING = """\
So a tie against the A/A margin is a weaker statement than 5 % of error: read it as "no further from the baseline
than about the baseline is from itself". A suite that names its margin keeps the promise of the first table.
""".splitlines()

COVERAGE_READING = """\
The t interval is the one that verdicts rest on. It holds its 95 % for normal and for heavy-tailed differences and loses
two or three points to strong skewness. The BCa bootstrap interval is shown beside it because people expect it, and is
too narrow for so few seeds: a resample of six numbers cannot be wider than the six.
""".splitlines()


def false_verdicts(
    law: str, seeds: int, margins: Sequence[float | None] = MARGINS, suites: int = SUITES
) -> list[float]:
    """Share of suites without any true difference in which some arm is called better or worse, per margin."""
    drawn = draw_suites(LAWS[law], suites, ARMS, seeds)
    return [
        float(np.mean([any(d.word in WRONG for d in suite) for suite in drawn.decisions(margin)])) for margin in margins
    ]


def power(law: str, seeds: int, suites: int = SUITES) -> tuple[float, float, float]:
    """Share of suites that find a difference of the promised size: the size, at no margin, and beyond one of 0.5 sd."""
    effect = detectable_difference(seeds, 1.0, ARMS)
    if effect is None:
        raise ValueError(f"seeds: {seeds} are too few for a verdict; expected 6 or more")
    found = []
    for margin in (0.0, 0.5):
        drawn = draw_suites(LAWS[law], suites, ARMS, seeds, effect=-(effect + margin))
        found.append(float(np.mean([suite[0].word == "better" for suite in drawn.decisions(margin)])))
    return effect, found[0], found[1]


def false_ties(law: str, seeds: int, margin: float = 1.0, suites: int = SUITES) -> float:
    """Share of arms called a tie although their true difference is the margin itself."""
    drawn = draw_suites(LAWS[law], suites, 1, seeds, effect=margin)
    return float(np.mean([suite[0].word == "tie" for suite in drawn.decisions(margin)]))


def false_ties_beside_an_estimate(law: str, seeds: int, spread: float = 1.0, suites: int = SUITES) -> float:
    """The same, where the margin is what a board takes: the A/A arm's spread, known from as many pairs only.

    Args:
        spread: the true standard deviation of an A/A difference over that of an arm's.
    """
    noise = LAWS[law]
    true = math.sqrt(float((draw_suites(noise, suites, 1, seeds).aa_spread_S ** 2).mean()))  # a sum of its variances
    drawn = draw_suites(noise, suites, 1, seeds, effect=spread)
    drawn = replace(drawn, aa_spread_S=drawn.aa_spread_S * spread / true)
    return float(np.mean([suite[0].word == "tie" for suite in drawn.decisions(None)]))


def coverage(law: str, seeds: int, samples: int = SUITES) -> tuple[float, float]:
    """Share of 95 % intervals of a mean difference that hold the true one: t, BCa bootstrap."""
    rng = np.random.default_rng((1, seeds))
    noise = LAWS[law]
    differences = noise.arm(rng, (samples, seeds)) - noise.baseline(rng, (samples, seeds))
    t = paired_many(list(differences), bootstrap=False)
    low, high = bca_interval(differences).T
    within = [s.ci_low is not None and s.ci_high is not None and s.ci_low <= 0 <= s.ci_high for s in t]
    return float(np.mean(within)), float(((low <= 0) & (high >= 0)).mean())


def sampling_error(share: float, draws: int) -> float:
    """Two standard errors of a simulated share."""
    return 2 * math.sqrt(share * (1 - share) / draws)


def page(suites: int = SUITES) -> str:
    """docs/calibration.md."""
    shown = f"{suites:,} simulated suites each, {ARMS} arms against a baseline, one task"
    error = sampling_error(ALPHA, suites)
    head = ["Differences", "n", *("A/A spread (default)" if m is None else f"{m:g} sd" for m in MARGINS)]
    rows = [
        [LAWS[law].title, str(n), *(f"{value:.1%}" for value in false_verdicts(law, n, suites=suites))]
        for law in LAWS
        for n in SEEDS
    ]
    lines = [
        "# Calibration",
        "",
        "Made by `python -m results.statistics.calibration`, through the code that makes the boards, with fixed random "
        "numbers.",
        "All sizes are in standard deviations (sd) of one paired difference.",
        "",
        "## No true difference: suites with any false verdict",
        "",
        f"Share of suites in which at least one arm is called *better* or *worse* ({shown}).",
        f"The promise is 5 %; the sampling error of such a share is ±{error:.1%} (two standard errors).",
        "The columns are the practical margin.",
        "",
        *table(head, rows),
        "",
        *READING,
        "",
        "## A true difference: power",
        "",
        "One arm is better by the difference that `plan` calls detectable at 80 %; share of suites that say so. With a",
        "margin the difference has to be larger by the margin.",
        "",
    ]
    rows = [
        [LAWS[law].title, str(n), f"{effect:.2f} sd", f"{plain:.1%}", f"{beyond:.1%}"]
        for law in LAWS
        for n in SEEDS
        for effect, plain, beyond in [power(law, n, suites)]
    ]
    lines += table(["Differences", "n", "Detectable", "Found, no margin", "Found, margin 0.5 sd"], rows)
    lines += [
        "",
        "## A true difference as large as the margin: false ties",
        "",
        "Share called a *tie*, of single arms whose true difference is the margin, 1 sd. The promise is 5 % an arm;",
        "it is not adjusted for the number of arms.",
        "",
    ]
    ties = [[LAWS[law].title, *(f"{false_ties(law, n, suites=suites):.1%}" for n in SEEDS)] for law in LAWS]
    lines += table(["Differences", *(f"n = {n}" for n in SEEDS)], ties)
    lines += [
        "",
        "Without horizons a board's margin is the A/A arm's spread, which as many pairs know only roughly. Share",
        "called a *tie* where the true difference is the true A/A spread, by that spread over the sd of an arm's",
        "difference:",
        "",
    ]
    estimated = [
        [LAWS[law].title, f"{spread:g}"]
        + [f"{false_ties_beside_an_estimate(law, n, spread, suites):.1%}" for n in SEEDS]
        for law in LAWS
        for spread in SPREADS
    ]
    lines += table(["Differences", "A/A spread, sd", *(f"n = {n}" for n in SEEDS)], estimated)
    lines += [
        "",
        *TIES_READING,
        "",
        "## Coverage of the 95 % intervals",
        "",
        f"Share of intervals that hold the true mean difference, {suites:,} samples each: t / BCa bootstrap.",
        "",
    ]
    covered = [
        [LAWS[law].title, *(" / ".join(f"{share:.1%}" for share in coverage(law, n, suites)) for n in COVERAGE_SEEDS)]
        for law in LAWS
    ]
    lines += table(["Differences", *(f"n = {n}" for n in COVERAGE_SEEDS)], covered)
    return "\n".join([*lines, "", *COVERAGE_READING, ""])


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default=Path("docs/calibration.md"))
@click.option("--suites", default=SUITES, show_default=True, help="Simulated suites per figure.")
def main(path: Path, suites: int) -> None:
    """Simulate, and write the page to PATH."""
    path.write_text(page(suites), encoding="utf-8")
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
