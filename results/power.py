"""What a suite of n seeds can say, before anybody pays for it: smallest p, smallest difference, seeds needed."""

from __future__ import annotations

import math
from functools import lru_cache

from scipy import stats
from scipy.optimize import brentq

ALPHA = 0.05
MIN_SEEDS = 6  # fewer never get a verdict: a paired exact test on 5 cannot go below 2/2⁵ = 0.0625
MOST_SEEDS = 1_000  # a suite that would need more is said to need more


def smallest_p(n: int, arms: int = 1) -> float:
    """The smallest Holm-adjusted p that the exact sign-flip test can give with n seeds and `arms` compared arms."""
    return min(1.0, max(1, arms) * 2.0 ** (1 - n))


def detectable_difference(n: int, sd: float, arms: int = 1, power: float = 0.8) -> float:
    """The smallest true mean difference that a paired t test on n seeds finds with the given power.

    Args:
        n: seeds.
        sd: standard deviation of one paired difference.
        arms: arms compared; the test is made at 0.05 / arms, Holm's first and strictest step.
        power: probability of p < 0.05.

    Returns:
        In units of `sd`'s; infinite below two seeds.
    """
    if n < 2:
        return math.inf
    df, threshold = n - 1, _critical(n, ALPHA / max(1, arms))

    def missing(shift: float) -> float:
        return float(stats.nct.sf(threshold, df, shift)) - power

    upper = threshold + 2.0
    while missing(upper) < 0:
        upper *= 1.5
    return float(brentq(missing, 0.0, upper)) * sd / math.sqrt(n)


def seeds_needed(mean: float, sd: float, arms: int = 1, margin: float = 0.0, power: float = 0.8) -> int | None:
    """Seeds with which a true difference of `mean` would be decided with the given power.

    Beyond the margin: the t test at 0.05 / arms rejects no difference, and the 95 % interval clears the margin.
    Inside it: two one-sided tests show a tie. The least is MIN_SEEDS.

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
    """Probability that n seeds decide. Of two conditions on one t statistic the less likely stands for both."""
    size = abs(mean)
    if sd == 0:
        return 0.0 if size == margin and size > 0 else 1.0
    df, scale = n - 1, math.sqrt(n) / sd
    if size > margin:
        reject = stats.nct.sf(_critical(n, ALPHA / max(1, arms)), df, size * scale)
        clear = stats.nct.sf(_critical(n, ALPHA), df, (size - margin) * scale)
        return float(min(reject, clear))
    one_sided = _critical(n, 2 * ALPHA)
    both = stats.nct.sf(one_sided, df, (margin - size) * scale) + stats.nct.sf(one_sided, df, (margin + size) * scale)
    return max(0.0, float(both) - 1.0)


@lru_cache(maxsize=4096)
def _critical(n: int, alpha: float) -> float:
    return float(stats.t.isf(alpha / 2, n - 1))
