"""What a suite of n seeds can say, before anybody pays for it: smallest p, smallest difference, seeds needed.

A difference is found when the verdict finds it: the t test rejects at 0.05 / arms (Holm's first and strictest step),
and the exact sign-flip test does not contradict it. With few seeds the exact test is the stricter of the two (nine
seeds and seven arms: 55 % power where the t test alone has 80 %), so the power is simulated, for normal differences,
with fixed random numbers.

Shapes: D draws, N seeds, F sign assignments.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

ALPHA = 0.05
MIN_SEEDS = 6  # fewer never get a verdict: a paired exact test on 5 cannot go below 2/2⁵ = 0.0625
MOST_SEEDS = 1_000  # a suite that would need more is said to need more
_SIMULATE_UP_TO = 20  # seeds; beyond, the exact test costs the t test no power worth simulating
_DRAWS = 2_000
_SIGNINGS = 2_048

Array = NDArray[np.float64]


def smallest_p(n: int, arms: int = 1) -> float:
    """The smallest Holm-adjusted p that the exact sign-flip test can give with n seeds and `arms` compared arms."""
    return min(1.0, max(1, arms) * 2.0 ** (1 - n))  # this way round no number of seeds overflows


def detectable_difference(n: int, sd: float, arms: int = 1, power: float = 0.8) -> float | None:
    """The smallest true mean difference that n seeds find with the given power, at no margin (add the margin to it).

    Args:
        n: seeds.
        sd: standard deviation of one paired difference.
        arms: arms compared with the baseline.
        power: probability of finding it.

    Returns:
        In units of `sd`'s; None below MIN_SEEDS seeds, where nothing can be found.
    """
    return None if n < MIN_SEEDS else _detectable_effect(n, max(1, arms), power) * sd


def resolution(n: int, sd: float, arms: int = 1, margin: float = 0.0, power: float = 0.8) -> float | None:
    """The smallest true mean difference that is called better or worse with the given power, the margin included.

    Unlike `detectable_difference` it asks for what a verdict asks for: the 95 % interval has to clear the margin too.

    Returns:
        In units of `sd`'s; None below MIN_SEEDS seeds, where there is no verdict.
    """
    if n < MIN_SEEDS:
        return None
    return max(_detectable_effect(n, max(1, arms), power) * sd, margin + _clearing_effect(n, power) * sd)


@lru_cache(maxsize=1024)
def _clearing_effect(n: int, power: float) -> float:
    """How far beyond a margin, in standard deviations, a mean has to lie for its 95 % interval to clear it."""

    def short(effect: float) -> float:
        return float(stats.nct.sf(_critical(n, ALPHA), n - 1, effect * math.sqrt(n))) - power

    return float(optimize.brentq(short, 0.0, 10.0))


@lru_cache(maxsize=1024)
def _detectable_effect(n: int, arms: int, power: float) -> float:
    """The same in standard deviations, by bisection to a thousandth."""
    low, high = 0.0, 1.0
    while _power(n, high, arms) < power:
        low, high = high, 2 * high
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if _power(n, middle, arms) >= power else (middle, high)
    return high


def _power(n: int, effect: float, arms: int) -> float:
    """Probability that a difference of `effect` standard deviations is found."""
    if n > _SIMULATE_UP_TO:
        return float(stats.nct.sf(_critical(n, ALPHA / arms), n - 1, effect * math.sqrt(n)))
    sample_DN, signs_NF = _random_numbers(n)
    shifted_DN = sample_DN + effect
    total_D = shifted_DN.sum(1)
    t_D = total_D / math.sqrt(n) / shifted_DN.std(1, ddof=1)
    found_D = t_D > _critical(n, ALPHA / arms)
    level = next((a for a in (ALPHA / arms, ALPHA) if smallest_p(n) < a), None)  # as far as the exact test can reach
    if level is not None:
        extreme_D = (np.abs(shifted_DN[found_D] @ signs_NF) >= total_D[found_D, None] * (1 - 1e-12)).mean(1)
        found_D[found_D] = extreme_D < level
    return float(found_D.mean())


@lru_cache(maxsize=32)
def _random_numbers(n: int) -> tuple[Array, Array]:
    """Standard normal samples (D, N) and sign assignments (N, F): all of them where they are few."""
    rng = np.random.default_rng(n)
    if 2**n <= _SIGNINGS:
        signs_NF = 1.0 - 2 * ((np.arange(2**n) >> np.arange(n)[:, None]) & 1)
    else:
        signs_NF = rng.choice((-1.0, 1.0), (n, _SIGNINGS))
    return rng.standard_normal((_DRAWS, n)), signs_NF


def seeds_needed(mean: float, sd: float, arms: int = 1, margin: float = 0.0, power: float = 0.8) -> int | None:
    """Seeds with which a true difference of `mean` would be decided with the given power.

    Beyond the margin: the difference is found, and the 95 % interval clears the margin. Inside it: two one-sided tests
    show a tie. The least is MIN_SEEDS.

    Returns:
        None where more than MOST_SEEDS seeds would be needed, as for a difference that equals the margin.
    """
    if _decided(MOST_SEEDS, mean, sd, arms, margin) < power:
        return None
    low, high = MIN_SEEDS - 1, MOST_SEEDS
    while high - low > 1:  # the power grows with n
        middle = (low + high) // 2
        if _decided(middle, mean, sd, arms, margin) >= power:
            high = middle
        else:
            low = middle
    return high


def _decided(n: int, mean: float, sd: float, arms: int, margin: float) -> float:
    """Probability that n seeds decide. Of two conditions on one sample the less likely stands for both."""
    size = abs(mean)
    if sd == 0:
        return 0.0 if size == margin and size > 0 else 1.0
    df, scale = n - 1, math.sqrt(n) / sd
    if size > margin:
        clear = float(stats.nct.sf(_critical(n, ALPHA), df, (size - margin) * scale))
        return min(clear, _power(n, size / sd, max(1, arms)))
    one_sided = _critical(n, 2 * ALPHA)
    both = stats.nct.sf(one_sided, df, (margin - size) * scale) + stats.nct.sf(one_sided, df, (margin + size) * scale)
    return max(0.0, float(both) - 1.0)


@lru_cache(maxsize=4096)
def _critical(n: int, alpha: float) -> float:
    return float(stats.t.isf(alpha / 2, n - 1))
