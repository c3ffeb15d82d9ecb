"""How much training a difference is worth: the baseline's losses at half, whole and double the horizon.

Each horizon is a run of its own, with a schedule of its own. Through the three mean losses goes one power law in the
number of training tokens, c + a · tokensᵝ; with e₀ what the second half brings, e₁ what doubling brings, and r = e₁/e₀:

    L(x) = L(0) − e₁ (rˣ − 1) / (r − 1)        x = log₂(tokens / those of the board), β = log₂ r

For r = 1 it is a straight line over log tokens; r > 1, gains that grow, is covered as well. Turned round it says how
many tokens the baseline would need for another arm's loss:

    x(Δ) = ln(1 − Δ (1/e₀ − 1/e₁)) / ln(e₁/e₀)

Between half and double it interpolates; beyond it extrapolates, and says so. Intervals come from the jackknife over
seeds (Efron and Stein 1981) with Student's t, on x; docs/calibration-tokens.md simulates their coverage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

MORE_TOKENS = 0.02  # the practical margin is what so much more training brings the baseline
LEVEL = 0.95

BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Curve:
    """The baseline's mean loss against training, relative to its loss at the board's horizon."""

    half: float  # e₀: loss at half the tokens minus loss at all of them
    double: float  # e₁: loss at all tokens minus loss at twice as many

    @property
    def usable(self) -> bool:
        """More training has to help, both times."""
        return self.half > 0 and self.double > 0

    def difference(self, doublings: float) -> float:
        """Loss after `doublings` more doublings of the horizon, minus the loss at the horizon."""
        bend = math.log(self.double / self.half)
        if abs(bend) < 1e-9:
            return -self.double * doublings
        return -self.double * math.expm1(bend * doublings) / math.expm1(bend)

    def doublings(self, difference: float) -> float:
        """How many doublings of the horizon bring this difference of loss; infinite where no training would."""
        bend = math.log(self.double / self.half)
        if abs(bend) < 1e-9:
            return -difference / self.double
        inside = -difference * math.expm1(bend) / self.double
        if inside <= -1:
            return math.inf if bend < 0 else -math.inf
        return math.log1p(inside) / bend


@dataclass(frozen=True)
class Horizons:
    """The baseline's paired losses by seed: what each horizon brings."""

    half: BySeed  # seed → loss at half the tokens minus loss at all of them
    double: BySeed  # seed → loss at all tokens minus loss at twice as many

    @classmethod
    def of(cls, half: BySeed, whole: BySeed, double: BySeed) -> Horizons:
        """From losses by seed; only seeds that all three horizons have."""
        shared = sorted(half.keys() & whole.keys() & double.keys())
        return cls({s: half[s] - whole[s] for s in shared}, {s: whole[s] - double[s] for s in shared})

    @property
    def curve(self) -> Curve | None:
        """The power law through the means; None without seeds or where more training does not help."""
        if not self.half:
            return None
        found = Curve(_mean(self.half), _mean(self.double))
        return found if found.usable else None


def _mean(values: BySeed) -> float:
    return math.fsum(values.values()) / len(values)


def jackknife(statistic: Callable[..., float], samples: Sequence[BySeed]) -> tuple[float, float | None, float | None]:
    """A statistic of several means over seeds, with its 95 % jackknife-t interval.

    Args:
        statistic: of one mean per sample.
        samples: seed → value. They may have different seeds; a seed left out is left out of all that have it. The
            degrees of freedom are those of the smallest sample.

    Returns:
        The estimate and the interval, None where it has no end: fewer than two seeds in a sample, or a statistic that
        is infinite without one of them.
    """
    value = statistic(*map(_mean, samples))
    fewest = min(map(len, samples))
    if fewest < 2 or not math.isfinite(value):
        return value, None, None
    seeds = sorted(set().union(*samples))
    without = [statistic(*(_mean(_drop(own, seed)) for own in samples)) for seed in seeds]
    if not all(map(math.isfinite, without)):
        return value, None, None
    n = len(seeds)
    error = math.sqrt((n - 1) / n * float(np.sum((np.array(without) - np.mean(without)) ** 2)))
    half = float(stdtrit(fewest - 1, (1 + LEVEL) / 2)) * error
    return value, value - half, value + half


def _drop(values: BySeed, seed: int) -> BySeed:
    return {other: value for other, value in values.items() if other != seed}


def _doublings(difference: float, half: float, double: float) -> float:
    curve = Curve(half, double)
    return curve.doublings(difference) if curve.usable else math.nan


def token_margin(horizons: Horizons, more: float = MORE_TOKENS) -> dict[str, Any] | None:
    """What `more` training tokens would bring the baseline, in nats/token; None where its horizons do not say."""
    curve = horizons.curve
    if curve is None:
        return None

    def worth(half: float, double: float) -> float:
        found = Curve(half, double)
        return -found.difference(math.log2(1 + more)) if found.usable else math.nan

    value, low, high = jackknife(worth, (horizons.half, horizons.double))
    return {
        "value": value,
        "ci_low": low,
        "ci_high": high,
        "source": "tokens",
        "more_tokens": more,
        "half": curve.half,
        "double": curve.double,
        "n": len(horizons.half),
    }


def tokens_saved(differences: BySeed, horizons: Horizons) -> dict[str, Any] | None:
    """How much longer the baseline would have to train for an arm's loss, as a share of the horizon.

    Args:
        differences: seed → loss of the arm minus that of the baseline.

    Returns:
        `mean` and its 95 % interval: 0.3 is 30 % more tokens, −0.2 a fifth fewer; `extrapolated` beyond half and
        double, with `bound`, what half or double comes to: all that is known is `over` or `under` it. A mean of null
        with `extrapolated` is a loss that the baseline would never reach. None where nothing can be said.
    """
    return longer(differences, horizons, None)


def longer(differences: BySeed, horizons: Horizons, slower: BySeed | None) -> dict[str, Any] | None:
    """The same in time: how much longer than the arm the baseline would take for the arm's loss.

    Args:
        slower: seed → log₂ of the arm's time over the baseline's at equal tokens; None: equal times.
    """
    if horizons.curve is None or not differences or (slower is not None and not slower):
        return None
    samples: list[BySeed] = [differences, horizons.half, horizons.double]
    if slower is None:
        doublings = jackknife(_doublings, samples)
    else:
        doublings = jackknife(lambda d, half, double, ratio: _doublings(d, half, double) - ratio, [*samples, slower])
    needed = horizons.curve.doublings(_mean(differences))
    mean, low, high = (None if x is None or not math.isfinite(x) else _share(x) for x in doublings)
    side, end = ("under", -1) if needed < -1 else ("over", 1)
    bound = None if -1 <= needed <= 1 else {side: _share(end - (_mean(slower) if slower else 0.0))}
    return {"mean": mean, "ci_low": low, "ci_high": high, "extrapolated": bound is not None, "bound": bound}


def _share(doublings: float) -> float | None:
    return math.exp2(doublings) - 1 if doublings < 1000 else None
