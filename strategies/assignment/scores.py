"""What both assignments make of scores that are not finite, or no matrix.

Shapes: T tokens, E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor

HUGE = 1e300  # differences of scores, and sums of a few differences, must not overflow


def finite_scores(scores_TE: Tensor) -> Tensor:
    """Scores in which NaN, ±inf and magnitudes beyond 1e300 are replaced by the smallest finite score (0 without one).

    Raises:
        ValueError: unless the scores are a (T, E) matrix of real numbers with at least one expert.
    """
    if scores_TE.ndim != 2 or scores_TE.shape[1] == 0 or scores_TE.is_complex():
        found = f"{scores_TE.dtype} of shape {tuple(scores_TE.shape)}"
        raise ValueError(f"scores_TE: {found} is not usable; expected real numbers, (tokens, experts), experts ≥ 1")
    values_TE = scores_TE.detach()
    finite_TE = values_TE.abs() < HUGE  # NaN compares false
    if finite_TE.all():
        return values_TE
    lowest = values_TE[finite_TE].min() if finite_TE.any() else values_TE.new_zeros(())
    return torch.where(finite_TE, values_TE, lowest)
