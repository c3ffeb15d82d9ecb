"""Do gains, margins and savings in tokens keep their promises? `python -m results.statistics.calibration_tokens`
simulates, through the code that makes the boards, and writes docs/calibration-tokens.md.

All sizes are in standard deviations of one paired difference. A simulated baseline follows a known power law over three
horizons, each with noise of its own.

Shapes: A arms, N seeds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from results.statistics.estimates import mean_interval, paired_many
from results.statistics.horizons import Curve, Horizons, token_margin, tokens_saved
from results.statistics.sensitivity import leave_one_out
from results.statistics.simulation import LAWS, Law
from results.statistics.verdict import Family, decide
from results.text import table

GAIN_ARMS = 15
LEADS = {"no arm ahead": (0.0,), "one arm ahead by 1 sd": (1.0,), "three ahead by 1, 0.8, 0.6 sd": (1.0, 0.8, 0.6)}
LEADS |= {"one arm ahead by 3 sd": (3.0,)}
RATIOS = (0.7, 1.0, 1.5)  # what doubling brings over what the second half brought
HORIZON_SEEDS = ((6, 6), (10, 10), (10, 5))  # pairs, seeds of the horizons
DOUBLING = 8.0  # sd that doubling the tokens brings
GAIN_READING = """\
Choosing and measuring by the same seeds flatters a task on which nothing is gained by up to a standard deviation.
Left out, a seed measures what the choice is worth to a new seed: no bias where nothing is gained, and less than the
true gain where close arms are mistaken for each other. On a task that is *fit* (gain over 10 sd) the two agree.
""".splitlines()

TIES_READING = """\
The A/A spread is a standard deviation, this margin a mean, and better known: false ties stay near the promised 5 %.
""".splitlines()

DIFFERENCES = (0.0, -3.0, -12.0)  # sd: level with the baseline, between the horizons, beyond them


@dataclass(frozen=True)
class Estimate:
    """How an estimator with an interval does on samples whose truth is known."""

    bias: float
    covered: float  # share of intervals that hold the truth
    beyond: float  # share of intervals that lie wholly above it


def gain_estimates(law: Law, leads: Sequence[float], seeds: int, samples: int) -> tuple[Estimate, Estimate]:
    """The best arm's gain: measured on the seeds that chose it, and with each seed left out of the choice."""
    rng = np.random.default_rng((2, seeds, len(leads)))
    truth_A = np.zeros(GAIN_ARMS)
    truth_A[: len(leads)] = leads
    naive, left_out = [], []
    for _ in range(samples):
        ahead_AN = law.baseline(rng, (1, seeds)) - law.arm(rng, (GAIN_ARMS, seeds)) + truth_A[:, None]
        naive.append(mean_interval(list(ahead_AN[ahead_AN.mean(1).argmax()])))
        left_out.append(mean_interval(list(leave_one_out(ahead_AN))))
    return _estimate(naive, truth_A.max()), _estimate(left_out, truth_A.max())


def _estimate(intervals: Sequence[tuple[float | None, float | None, float | None]], truth: float) -> Estimate:
    mean, low, high = np.array(intervals, dtype=float).T
    return Estimate(
        float(mean.mean() - truth), float(((low <= truth) & (truth <= high)).mean()), float((low > truth).mean())
    )


def draw(
    law: Law, curve: Curve, difference: float, seeds: int, horizon_seeds: int, rng: np.random.Generator
) -> tuple[dict[int, float], Horizons]:
    """One arm's paired differences to a baseline, and that baseline's horizons."""
    half, whole, double = law.baseline(rng, (3, seeds))
    arm = law.arm(rng, (seeds,))
    known = range(horizon_seeds)
    horizons = Horizons.of(
        {s: curve.half + half[s] for s in known},
        dict(enumerate(whole)),
        {s: double[s] - curve.double for s in known},
    )
    return {s: difference + arm[s] - whole[s] for s in range(seeds)}, horizons


def savings(law: Law, ratio: float, difference: float, seeds: int, horizon_seeds: int, samples: int) -> Estimate:
    """Tokens saved, as doublings of the horizon, with the interval that boards show."""
    rng = np.random.default_rng((3, seeds, horizon_seeds))
    curve = Curve(DOUBLING / ratio, DOUBLING)
    found = []
    for _ in range(samples):
        saved = tokens_saved(*draw(law, curve, difference, seeds, horizon_seeds, rng)) or {}
        bounds = [saved.get(key) for key in ("mean", "ci_low", "ci_high")]
        low, high = -math.inf, math.inf  # an interval without an end
        mean, below, above = (None if value is None else math.log2(1 + value) for value in bounds)
        found.append((mean, low if below is None else below, high if above is None else above))
    return _estimate([entry for entry in found if entry[0] is not None], curve.doublings(difference))


def false_ties(law: Law, seeds: int, samples: int, worth: float = 1.0) -> float:
    """Share of arms called a tie whose true difference is what 2 % more tokens truly bring, `worth` sd."""
    rng = np.random.default_rng((4, seeds))
    line = Curve(1.0, 1.0)
    scale = worth / -line.difference(math.log2(1.02))
    curve = Curve(scale, scale)
    ties = 0
    for _ in range(samples):
        differences, horizons = draw(law, curve, worth, seeds, seeds, rng)
        margin = token_margin(horizons)
        summary = paired_many([list(differences.values())], bootstrap=False)[0]
        ties += decide([Family(summary, planned=seeds)], margin["value"] if margin else 0.0)[0].word == "tie"
    return ties / samples


def section(samples: int) -> list[str]:
    """The tables of docs/calibration-tokens.md."""
    noise = LAWS["normal"]
    gains = [
        [title, str(n)]
        + [f"{e.bias:+.2f} sd / {e.covered:.1%} / {e.beyond:.1%}" for e in gain_estimates(noise, leads, n, samples)]
        for title, leads in LEADS.items()
        for n in (2, 6, 10)
    ]
    saved = [
        [LAWS[law].title, f"{ratio:g}", f"{n}, {m}"]
        + [
            f"{e.bias:+.3f} / {e.covered:.1%}"
            for e in (savings(LAWS[law], ratio, difference, n, m, samples) for difference in DIFFERENCES)
        ]
        for law in ("normal", "heavy")
        for ratio in RATIOS
        for n, m in HORIZON_SEEDS
    ]
    ties = [
        [LAWS[law].title, *(f"{false_ties(LAWS[law], n, samples):.1%}" for n in (6, 10, 20))]
        for law in ("normal", "heavy", "skewed-noise")
    ]
    return [
        "## The gain of the best arm",
        "",
        "Bias / share of 95 % intervals that hold the best arm's true gain / share that lie above it,",
        f"{samples:,} samples of {GAIN_ARMS} arms: measured by the seeds that chose the arm, and with each left out",
        "of the choice, as boards do.",
        "",
        *table(["True gains", "n", "Chosen by the same seeds", "Leave one out"], gains),
        "",
        *GAIN_READING,
        "",
        "## Tokens saved",
        "",
        f"Bias in doublings of the horizon / coverage of the 95 % jackknife interval, {samples:,} samples. Doubling",
        f"the tokens brings the baseline {DOUBLING:g} sd; *bend* is that over what the second half brought; n: pairs,",
        "seeds of the horizons.",
        "",
        *table(
            ["Noise", "Bend", "n", *(f"difference {d:+g} sd" if d else "no difference" for d in DIFFERENCES)], saved
        ),
        "",
        "The last column lies beyond double the horizon: such figures are extrapolated, and the board marks them.",
        "",
        "## A true difference as large as the margin in tokens: false ties",
        "",
        "The margin is estimated from as many seeds of each horizon as there are pairs; 2 % more tokens bring 1 sd.",
        "",
        *table(["Differences", "n = 6", "n = 10", "n = 20"], ties),
        "",
        *TIES_READING,
        "",
    ]


def page(samples: int) -> str:
    """docs/calibration-tokens.md."""
    error = 2 * math.sqrt(0.95 * 0.05 / samples)
    head = [
        "# Calibration of gains, margins and savings in tokens",
        "",
        "Made by `python -m results.statistics.calibration_tokens`, with fixed random numbers. All sizes are in "
        "standard",
        f"deviations (sd) of one paired difference. Two standard errors of a share near 95 %: {error:.1%}.",
        "",
    ]
    return "\n".join([*head, *section(samples)])


@click.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path), default=Path("docs/calibration-tokens.md"))
@click.option("--samples", default=300, show_default=True, help="Simulated samples per figure.")
def main(path: Path, samples: int) -> None:
    """Simulate, and write the page to PATH."""
    path.write_text(page(samples), encoding="utf-8")
    click.echo(f"written: {path}")


if __name__ == "__main__":
    main()
