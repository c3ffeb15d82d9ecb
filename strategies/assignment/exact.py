"""The exact balanced assignment.

Shapes: T tokens, E experts, S slots (each expert has as many as it may take tokens).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

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
    if capacity_E is None:
        least_E = np.full(experts, tokens // experts)
        most_E = least_E + (1 if tokens % experts else 0)
    else:
        least_E = most_E = capacity_E.cpu().numpy()
    expert_S = np.repeat(np.arange(experts), most_E)
    slots = len(expert_S)
    value_SS = np.zeros((slots, slots))
    value_SS[:tokens] = values_TE[:, expert_S]
    first_S = np.arange(slots) - np.repeat(np.cumsum(most_E) - most_E, most_E)
    value_SS[tokens:, first_S < least_E[expert_S]] = -np.inf
    experts_T = expert_S[linear_sum_assignment(value_SS, maximize=True)[1][:tokens]]
    return torch.from_numpy(experts_T).to(scores_TE.device)
