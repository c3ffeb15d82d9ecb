"""The exact balanced assignment.

Shapes: T tokens, E experts.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from strategies.assignment.flow import Settlement
from strategies.assignment.prices import balancing_prices
from strategies.assignment.scores import clean


@torch.no_grad()
def balanced_assignment(scores_TE: Tensor, capacity_E: Tensor | None = None) -> Tensor:
    """The assignment of tokens to experts that maximises Σ_t scores[t, expert_t] with every expert full.

    Args:
        scores_TE: (T, E), any float dtype. Non-finite scores count as the smallest finite one.
        capacity_E: tokens of each expert, (E,) integers that sum to T. None: T // E each, and the T mod E experts
            that gain most by it take one more.

    Returns:
        experts_T: (T,) int64 on the device of the scores.
    """
    values_TE = clean(scores_TE)
    tokens, experts = values_TE.shape
    if tokens == 0:
        return torch.empty(0, dtype=torch.int64, device=scores_TE.device)
    capacity = np.full(experts, tokens // experts) if capacity_E is None else capacity_E.cpu().numpy()
    price_E = balancing_prices(
        torch.from_numpy(values_TE),
        torch.from_numpy(capacity) * (tokens / capacity.sum())
        if capacity.sum()
        else torch.full((experts,), tokens / experts),
    ).numpy()
    rest = tokens - capacity.sum()
    if rest:
        v = np.full((tokens + experts, experts + 1), -np.inf)
        v[:tokens, :experts] = values_TE
        v[tokens:, experts] = 0
        v[np.arange(tokens, tokens + experts), np.arange(experts)] = 0
        capacity = np.append(capacity + 1, rest)
        values_TE = v
        price_E = np.append(price_E, np.sort(price_E)[-rest])
    experts_T = Settlement(values_TE, price_E, capacity).settle()[:tokens]
    return torch.from_numpy(experts_T).to(scores_TE.device)
