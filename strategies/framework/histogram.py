"""Quantiles of a global batch from histograms: counts add up over micro-batches and ranks, exact quantiles don't.

Shapes: T tokens, E experts, N bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from strategies.framework.router import count

BINS = 1000  # as in quantile balancing's published estimator


def histogram(values_TE: Tensor, low: float | Tensor, high: float | Tensor) -> Tensor:
    """How many tokens fall into each of N equal bins of [low, high], per expert: (E, N) float32.

    Values outside go to the nearest bin; values that are not finite are left out.
    """
    num_experts = values_TE.shape[1]
    bin_TE = ((values_TE.nan_to_num(0.0) - low) * (BINS / (high - low))).clamp(0, BINS - 1).long()
    bin_TE += torch.arange(num_experts, device=values_TE.device) * BINS
    nowhere = num_experts * BINS
    bin_TE = torch.where(values_TE.isfinite(), bin_TE, nowhere)
    return count(bin_TE.reshape(-1), nowhere + 1)[:nowhere].view(num_experts, BINS)


def quantile(counts_EN: Tensor, low: float | Tensor, high: float | Tensor, share: float) -> Tensor:
    """The value below which `share` of each expert's counts lie, (E,), linear within its bin; `low` without counts."""
    below_EN = counts_EN.long().cumsum(dim=1)  # integers: the sum is the same in any order
    wanted_E1 = share * below_EN[:, -1:].double()
    bin_E1 = (below_EN < wanted_E1).sum(dim=1, keepdim=True).clamp_max(BINS - 1)
    inside_E1 = counts_EN.gather(1, bin_E1)
    missing_E1 = wanted_E1 - (below_EN.gather(1, bin_E1) - inside_E1)
    position_E1 = bin_E1 + (missing_E1 / inside_E1.clamp_min(1)).clamp(0, 1)
    return (low + position_E1.squeeze(1) * ((high - low) / BINS)).float()
