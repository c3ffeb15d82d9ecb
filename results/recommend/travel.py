"""How rankings travel: whether the order of strategies in one place is their order in another.

Kendall's τ between two rankings is (pairs of arms in the same order − pairs in opposite order) / pairs. Between
measured means it is drawn towards zero by noise, and resampling seeds draws it there a second time: a percentile
bootstrap misses a τ of 1 nearly always. The interval here asks instead what is known of each pair. A pair whose order a
paired t test shows in both places (p < 0.01 each, unadjusted) counts as what it is; every other counts
against the lower end and for the upper:

    low = (same − opposite − open) / pairs        high = (same − opposite + open) / pairs

Few seeds give wide intervals, never a wrong one from noise alone. `python -m results.recommend.coverage` simulates it.

Shapes: A arms, N seeds, P pairs of arms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy import stats

from results.statistics.power import MIN_SEEDS

FEWEST_ARMS = 5  # fewer have too few orders to speak of a ranking
_SHOWN = 0.01  # two-sided p at which the order of one pair counts as shown in one place

Word = Literal["high", "positive", "low", "open"]
WORDS: dict[Word, str] = {
    "high": "the interval of τ lies above 0.5: one place speaks for the other",
    "positive": "it lies above 0: better than no word, not enough to choose by",
    "low": "it lies below 0.5: the order of one place is not the order of the other",
    "open": "the seeds leave it open",
}
Losses = Mapping[str, Mapping[int, float]]  # arm → seed → loss


@dataclass(frozen=True)
class Agreement:
    """Two rankings of the same arms."""

    arms: int
    tau: float  # Kendall's, between means
    low: float
    high: float
    same: int  # pairs shown in the same order
    opposite: int  # pairs shown in opposite orders
    pairs: int
    word: Word

    @property
    def open(self) -> int:
        return self.pairs - self.same - self.opposite


def agreement(first: Losses, second: Losses) -> Agreement | None:
    """How the order of arms in `first` agrees with that in `second`, over the arms that both have with enough seeds.

    Two arms whose trials are the same in both places (no knob, so no tuning) agree by construction and are no pair.

    Returns:
        None with fewer than FEWEST_ARMS arms in common, or with no pair.
    """
    arms = [arm for arm in first if _enough(first, arm) and _enough(second, arm)]
    if len(arms) < FEWEST_ARMS:
        return None
    own = [pair for pair in combinations(arms, 2) if any(first[arm] != second[arm] for arm in pair)]
    if not own:
        return None  # the same trials throughout
    here, there = ([_order(place[one], place[other]) for one, other in own] for place in (first, second))
    same = sum(a * b > 0 for a, b in zip(here, there, strict=True))
    opposite = sum(a * b < 0 for a, b in zip(here, there, strict=True))
    pairs = len(here)
    unknown = pairs - same - opposite
    low, high = (same - opposite - unknown) / pairs, (same - opposite + unknown) / pairs
    tau = _tau(_means(first, arms), _means(second, arms), own)
    return Agreement(len(arms), float(tau), low, high, same, opposite, pairs, word(low, high))


def word(low: float, high: float) -> Word:
    if low >= 0.5:
        return "high"
    if high < 0.5:
        return "low"
    return "positive" if low > 0 else "open"


def _enough(losses: Losses, arm: str) -> bool:
    return arm in losses and len(losses[arm]) >= MIN_SEEDS


def _tau(first: Mapping[str, float], second: Mapping[str, float], pairs: Sequence[tuple[str, str]]) -> float:
    """Kendall's τ over the pairs."""
    signs = [np.sign(first[one] - first[other]) * np.sign(second[one] - second[other]) for one, other in pairs]
    return float(np.mean(signs))


def _order(first: Mapping[int, float], second: Mapping[int, float]) -> int:
    """+1 where the first is shown to have the higher loss, −1 where the lower, else 0."""
    seeds = sorted(first.keys() & second.keys())
    n = len(seeds)
    if n < MIN_SEEDS:
        return 0
    difference_N = np.array([first[seed] - second[seed] for seed in seeds])
    error = difference_N.std(ddof=1) / math.sqrt(n)
    mean = float(difference_N.mean())
    return int(np.sign(mean)) if abs(mean) > error * stats.t.isf(_SHOWN / 2, n - 1) else 0


def _means(losses: Losses, arms: Sequence[str]) -> dict[str, float]:
    """Means over the seeds that all arms have where there are any, so that no arm is judged by its luck with seeds."""
    common = set.intersection(*(set(losses[arm]) for arm in arms))
    return {arm: float(np.mean([losses[arm][seed] for seed in common or losses[arm]])) for arm in arms}
