"""Which measure foretells the loss: of two settings, how often the one that measures lower also has the lower loss.

The share of concordant pairs, ties by half, is (τ + 1)/2 with Kendall's τ_a; a measure that says nothing has 0.5. Its
interval, and that of a difference between two measures, is a percentile bootstrap over settings. These stand for other
settings of the same rules, as if drawn one by one, and not for other rules; their losses are taken as they are, and
noise in them draws every share towards 0.5.

Shapes: S settings, B resamples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_SETTINGS = 6  # fewer make too few pairs to speak of; intervals want twice as many
_RESAMPLES = 4000


@dataclass(frozen=True)
class Share:
    """A share of pairs, or a difference of two, with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Foretold:
    """How well one measure foretells the loss."""

    share: Share
    ahead: Share | None  # of the reference, over the same resamples; None for the reference itself
    other_rules: float | None  # the share among pairs of different rules alone; None where all are of one
    same_rule: float | None  # among pairs of one rule; None where no rule is there twice


def concordance(measure_S: Sequence[float], loss_S: Sequence[float]) -> float:
    """The share of pairs of settings in which the one that measures lower has the lower loss.

    Raises:
        ValueError: lengths differ, there are fewer than two settings, or a value is not finite.
    """
    agree_SS = _agree(measure_S, loss_S)
    return float(agree_SS[np.triu_indices(len(agree_SS), 1)].mean())


def foretell(
    measures: Mapping[str, Sequence[float]], loss_S: Sequence[float], rules_S: Sequence[str], reference: str
) -> dict[str, Foretold]:
    """How well each measure foretells the loss, and how far the reference is from it.

    Args:
        measures: name → one value per setting, the larger the less even.
        loss_S: held-out loss of each setting, nats/token, or its difference to a common baseline.
        rules_S: the rule that each is a setting of.
        reference: the measure that the others are held against.

    Raises:
        ValueError: as `concordance`; or the reference is none of the measures.
    """
    if reference not in measures:
        raise ValueError(f"reference: {reference!r}; expected one of {', '.join(measures)}")
    agree = {name: _agree(values_S, loss_S) for name, values_S in measures.items()}
    count = len(loss_S)
    weights_BS = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=_RESAMPLES).astype(float)
    weights_BS = weights_BS[(weights_BS > 0).sum(axis=1) > 1]  # a setting is no pair with itself
    pairs_B = _paired(weights_BS, 1 - np.eye(count))
    drawn = {name: _paired(weights_BS, agree_SS) / pairs_B for name, agree_SS in agree.items()}
    upper = np.triu(np.ones((count, count), dtype=bool), 1)
    same_SS = np.equal.outer(np.asarray(rules_S), np.asarray(rules_S))
    whole = {name: float(agree_SS[upper].mean()) for name, agree_SS in agree.items()}
    return {
        name: Foretold(
            _share(whole[name], drawn[name]),
            None if name == reference else _share(whole[reference] - whole[name], drawn[reference] - drawn[name]),
            _mean(agree_SS[upper & ~same_SS]),
            _mean(agree_SS[upper & same_SS]),
        )
        for name, agree_SS in agree.items()
    }


def _agree(measure_S: Sequence[float], loss_S: Sequence[float]) -> np.ndarray:
    """For each pair of settings 1 where both are in the same order, 0 in the opposite, ½ for ties; 0 for itself."""
    measure, loss = np.asarray(measure_S, dtype=float), np.asarray(loss_S, dtype=float)
    if measure.shape != loss.shape or measure.size < 2:
        raise ValueError(
            f"{measure.size} measured and {loss.size} losses; expected one of each for two settings or more"
        )
    if not (np.isfinite(measure).all() and np.isfinite(loss).all()):
        raise ValueError("a value is not finite; expected numbers")
    signs_SS = np.sign(np.subtract.outer(measure, measure)) * np.sign(np.subtract.outer(loss, loss))
    agree_SS = (signs_SS + 1) / 2
    np.fill_diagonal(agree_SS, 0)
    return agree_SS


def _paired(weights_BS: np.ndarray, of_SS: np.ndarray) -> np.ndarray:
    """Σ over pairs of two different settings, each as often as it was drawn."""
    return np.einsum("bs,st,bt->b", weights_BS, of_SS, weights_BS, optimize=True)


def _share(mean: float, drawn_B: np.ndarray) -> Share:
    low, high = np.percentile(drawn_B, (2.5, 97.5))
    return Share(mean, float(low), float(high))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None
