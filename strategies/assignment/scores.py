"""Scores as the solvers want them: float64 on the CPU, all finite.

Shapes: T tokens, E experts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]


def clean(scores_TE: Tensor) -> Matrix:
    """A float64 copy in which every non-finite score is the smallest finite one (0 where none is finite).

    Raises:
        ValueError: unless the scores are a (T, E) matrix with at least one expert.
    """
    if scores_TE.ndim != 2 or scores_TE.shape[1] == 0:
        raise ValueError(f"scores_TE: shape {tuple(scores_TE.shape)} is not (tokens, experts) with an expert or more")
    values_TE = scores_TE.detach().double().cpu().numpy().copy()
    finite_TE = np.isfinite(values_TE)
    if not finite_TE.all():
        values_TE[~finite_TE] = values_TE[finite_TE].min(initial=np.inf) if finite_TE.any() else 0.0
    return values_TE
