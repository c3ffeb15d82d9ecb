"""The exact balanced assignment, the training-time routing of BASE layers (Lewis et al., arXiv:2103.16716, eq. 2).

Approximate dual prices (`prices`) put nearly every token where it belongs; shortest paths (`flow`) move the rest.

Shapes: T tokens, E experts.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from strategies.assignment.flow import Floats, Ints, settle
from strategies.assignment.prices import balancing_prices
from strategies.assignment.scores import finite_scores


@torch.no_grad()
def balanced_assignment(scores_TE: Tensor, capacity_E: Tensor | None = None) -> Tensor:
    """The assignment of tokens to experts that maximises Σ_t scores[t, expert_t] while every expert is exactly full.

    It is computed on the CPU (scores on another device are copied there) in float64, and exact in the sense in which
    such arithmetic is: no other assignment with the same loads has a larger sum, up to rounding in float64. The same
    scores give the same assignment; of several equally good ones it is unspecified which. No gradient.

    Args:
        scores_TE: (T, E) real numbers. NaN, ±inf and magnitudes beyond 1e300 count as the smallest finite score; if no
            score is finite, all count as 0.
        capacity_E: how many tokens each expert takes, (E,) integers ≥ 0 that sum to T. None: T // E each, and one more
            for those T mod E experts that make the sum largest (so with T < E no expert takes more than one).

    Returns:
        experts_T: (T,) int64 on the device of the scores.

    Raises:
        ValueError: scores that are no (T, E ≥ 1) matrix, or capacities that do not fit them.
    """
    values_TE = finite_scores(scores_TE).cpu().double().contiguous()
    tokens, experts = values_TE.shape
    if capacity_E is None:
        full_E, rest = np.full(experts, tokens // experts), tokens % experts
    else:
        full_E, rest = _checked(capacity_E, tokens, experts), 0
    if tokens == 0:
        return torch.empty(0, dtype=torch.int64, device=scores_TE.device)
    price_E = balancing_prices(values_TE, torch.from_numpy(full_E + rest / experts)).numpy()
    if rest:
        experts_T = settle(*_with_seats(values_TE.numpy(), price_E, full_E, rest))[:tokens]
    else:
        experts_T = settle(values_TE.numpy(), price_E, full_E)
    return torch.from_numpy(experts_T).to(scores_TE.device)


def _with_seats(values_TE: Floats, price_E: Floats, full_E: Ints, rest: int) -> tuple[Floats, Floats, Ints]:
    """The same problem with fixed capacities: the choice of the experts that take one more becomes part of it.

    Every expert gets room for the extra token, and a dummy token of its own that scores 0 there or at one additional
    expert, which has room for `rest` dummies: exactly so many experts are without their dummy, and have room.
    """
    tokens, experts = values_TE.shape
    padded_TE = np.full((tokens + experts, experts + 1), -np.inf)
    padded_TE[:tokens, :experts] = values_TE
    padded_TE[tokens:, experts] = 0
    np.fill_diagonal(padded_TE[tokens:, :experts], 0)
    dearest = np.sort(price_E)[-rest]  # experts with at least this price are those that start with the extra token
    return padded_TE, np.append(price_E, dearest), np.append(full_E + 1, rest)


def _checked(capacity_E: Tensor, tokens: int, experts: int) -> Ints:
    """The capacities as an array, if they are possible."""
    if capacity_E.shape != (experts,) or capacity_E.is_floating_point() or capacity_E.is_complex():
        found = f"{capacity_E.dtype} of shape {tuple(capacity_E.shape)}"
        raise ValueError(f"capacity_E: {found} is not usable; expected integers of shape ({experts},)")
    full_E: Ints = capacity_E.detach().cpu().long().numpy()
    if (full_E < 0).any() or full_E.sum() != tokens:
        raise ValueError(
            f"capacity_E: sums to {full_E.sum()} with smallest entry {full_E.min()};"
            f" expected entries ≥ 0 that sum to the {tokens} tokens"
        )
    return full_E
