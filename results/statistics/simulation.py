"""Suites drawn at random, with a truth that is known: what the statistics are calibrated on.

A simulated suite is one task: a baseline, arms compared with it, and an A/A arm. The seed's effect is zero, which
makes the A/A spread, and so the default margin, as small as it can be. Differences to the baseline have mean zero and
variance one unless an effect is added; arms share the baseline's noise, as they do in a real suite.

Shapes: S suites, A arms, N seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.statistics.estimates import Paired, paired_many
from results.statistics.verdict import Decision, Family, decide

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


@dataclass(frozen=True)
class Law:
    """How noise is distributed, in an arm and in the baseline: mean zero; variances that add up to one."""

    title: str
    arm: Draw
    baseline: Draw


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape)


def _heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.standard_t(3, shape) / math.sqrt(3)


def _skewed(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Centred lognormal with σ = 1: skewness 6.2, excess kurtosis 111."""
    return (rng.lognormal(0, 1, shape) - math.exp(0.5)) / math.sqrt(math.e * (math.e - 1))


def _scaled(draw: Draw, variance: float) -> Draw:
    return lambda rng, shape: math.sqrt(variance) * draw(rng, shape)


LAWS = {
    "normal": Law("normal", _scaled(_normal, 0.5), _scaled(_normal, 0.5)),
    "heavy": Law("heavy-tailed (t, 3 df)", _scaled(_heavy, 0.5), _scaled(_heavy, 0.5)),
    "skewed-noise": Law("skewed noise, the same in all arms", _scaled(_skewed, 0.5), _scaled(_skewed, 0.5)),
    "skewed-differences": Law("skewed, heavy-tailed differences", _scaled(_skewed, 0.8), _scaled(_normal, 0.2)),
}


@dataclass(frozen=True)
class Suites:
    """Many simulated suites: summaries of every arm's differences, and the A/A spread of each."""

    arms_SA: list[list[Paired]]
    aa_spread_S: Array

    def decisions(self, margin: float | None) -> list[list[Decision]]:
        """Every suite's decisions; margin None: the suite's own A/A spread, the default."""
        return [
            decide([Family(summary, planned=summary.n) for summary in arms_A], spread if margin is None else margin)
            for arms_A, spread in zip(self.arms_SA, self.aa_spread_S, strict=True)
        ]


def draw_suites(law: Law, suites: int, arms: int, seeds: int, *, effect: float = 0.0, seed: int = 0) -> Suites:
    """Draw suites in which the first arm's loss differs from the baseline's by `effect` and the others' not at all."""
    rng = np.random.default_rng((seed, suites, arms, seeds))
    baseline_SN = law.baseline(rng, (suites, 1, seeds))
    differences_SAN = law.arm(rng, (suites, arms, seeds)) - baseline_SN
    differences_SAN[:, 0] += effect
    again_SN = law.baseline(rng, (suites, seeds))
    summaries = paired_many(list(differences_SAN.reshape(-1, seeds)), bootstrap=False)
    return Suites(
        [summaries[start : start + arms] for start in range(0, len(summaries), arms)],
        (again_SN - baseline_SN[:, 0]).std(1, ddof=1),
    )
