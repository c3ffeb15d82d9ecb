"""Which arms are not shown to be worse than the best: multiple comparisons with the best, paired by seed.

An arm a is behind the best of the others by θ_a = max_b (μ_a − μ_b): negative for the best arm, which leads by it.

    low_a  = max_b lower_ab, each a one-sided paired t bound at 1 − 0.05 / (others)
    high_a = max_b upper_ab, each a one-sided paired t bound at 0.95

Each of the two holds with 95 %: `low` because the bounds it is the largest of hold together (Bonferroni), `high`
because the one bound that belongs to the true best of the others is enough. An arm leaves the set when low > 0: some
other arm is shown to have the lower loss. The best arm stays in it with 95 % (Hsu, Multiple Comparisons, 1996, section
4.2.4; with Bonferroni's in place of the joint distribution, since arms differ in variance). No arm has to be named as
the best for this, and the luck of whichever comes first does not enter.

An arm with a diverged trial is never in the set: its finished seeds alone would flatter it. An arm with fewer than
MIN_SEEDS pairs with some other arm is not compared with that one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from results.statistics.power import ALPHA, MIN_SEEDS

Word = Literal["in the set", "behind", "diverged", "too few seeds"]


@dataclass(frozen=True)
class Standing:
    """Where one arm stands against the best of the others. What cannot be computed is None."""

    arm: str
    word: Word
    n: int  # its finished seeds
    against: str | None = None  # the arm with the lowest mean on common seeds
    mean: float | None = None  # behind that arm, in the unit of the losses; negative: ahead of all others
    low: float | None = None  # at least so far behind the best of the others, 95 %
    high: float | None = None  # at most, 95 %
    worse_than: str | None = None  # the arm that shows it, where `low` is above zero


def confidence_set(losses: Mapping[str, Mapping[int, float]], diverged: Collection[str] = ()) -> list[Standing]:
    """Every arm's standing; those in the set first, by mean difference.

    Args:
        losses: arm → seed → value, lower is better; one seed of all arms is one pair.
        diverged: arms of which a trial diverged.

    Raises:
        ValueError: a value is not finite.
    """
    for arm, by_seed in losses.items():
        for seed, value in by_seed.items():
            if not math.isfinite(value):
                raise ValueError(f"losses: {arm}, seed {seed} is {value}; expected a finite number")
    able = [arm for arm in losses if arm not in diverged and len(losses[arm]) >= MIN_SEEDS]
    standings = [_standing(arm, losses, able) if arm in able else _outside(arm, losses, diverged) for arm in losses]
    order = ("in the set", "behind", "diverged", "too few seeds")
    return sorted(standings, key=lambda s: (order.index(s.word), math.inf if s.mean is None else s.mean, s.arm))


def behind(losses: Mapping[int, float], other: Mapping[int, float]) -> dict[str, float] | None:
    """How far losses are shown to be above those of one other, by seed: mean, low, high; None where they are not."""
    seeds = sorted(losses.keys() & other.keys())
    if len(seeds) < MIN_SEEDS:
        return None
    difference_N = np.array([losses[seed] - other[seed] for seed in seeds])
    low, high = _lower(difference_N, 1), -_bound(-difference_N, ALPHA)
    return {"mean": float(difference_N.mean()), "low": low, "high": high} if low > 0 else None


def _outside(arm: str, losses: Mapping[str, Mapping[int, float]], diverged: Collection[str]) -> Standing:
    return Standing(arm, "diverged" if arm in diverged else "too few seeds", len(losses[arm]))


def _standing(arm: str, losses: Mapping[str, Mapping[int, float]], able: list[str]) -> Standing:
    own = losses[arm]
    found = {}
    for other in able:
        seeds = sorted(own.keys() & losses[other].keys())
        if other != arm and len(seeds) >= MIN_SEEDS:
            found[other] = np.array([own[seed] - losses[other][seed] for seed in seeds])
    if not found:
        return Standing(arm, "too few seeds", len(own))
    lower = {other: _lower(difference_N, len(found)) for other, difference_N in found.items()}
    upper = [-_bound(-difference_N, ALPHA) for difference_N in found.values()]
    against = max(found, key=lambda other: found[other].mean())
    strictest = max(lower, key=lambda other: lower[other])
    worse = lower[strictest] > 0
    return Standing(
        arm,
        "behind" if worse else "in the set",
        len(own),
        against,
        float(found[against].mean()),
        float(lower[strictest]),
        float(max(upper)),
        strictest if worse else None,
    )


def _lower(difference_N: np.ndarray, others: int) -> float:
    """One-sided lower bound at 1 − 0.05 / others; not above zero where the exact test contradicts it."""
    bound = _bound(difference_N, ALPHA / others)
    return min(bound, 0.0) if bound > 0 and sign_flip_p(difference_N) >= ALPHA else bound


def _bound(difference_N: np.ndarray, alpha: float) -> float:
    n = len(difference_N)
    return float(difference_N.mean() + stdtrit(n - 1, alpha) * difference_N.std(ddof=1) / math.sqrt(n))


def sign_flip_p(difference_N: np.ndarray) -> float:
    """One-sided p of the exact sign-flip test that the mean is not above zero, over all 2ᴺ assignments up to N = 16;
    beyond, where the t bound needs no second opinion, 0."""
    n = len(difference_N)
    if n > 16:
        return 0.0
    signs_FN = 1.0 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    sums_F = signs_FN @ difference_N
    return float((sums_F >= sums_F[0] - 1e-12 * np.abs(difference_N).sum()).mean())
