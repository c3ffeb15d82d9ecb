"""A loop over experts. Slow, and short enough to be seen to be right: the other backends are tested against it.

Shapes: T tokens, D width, E experts, F expert width, R rows of one expert.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from suite.backends.dispatch import DispatchPlan


def experts(hidden_TD: Tensor, plan: DispatchPlan, w_in_EDF: Tensor, w_out_EFD: Tensor) -> Tensor:
    """out[t] = Σ over the assignments of t of gate · expert(hidden[t])."""
    out_TD = torch.zeros_like(hidden_TD)
    start = 0
    # unbind, not w[e]: the backward of indexing builds a full-size gradient per expert
    for w_in_DF, w_out_FD, rows in zip(w_in_EDF.unbind(0), w_out_EFD.unbind(0), plan.load_E.tolist(), strict=True):
        token_R = plan.token_A[start : start + rows]
        gate_R = plan.gate_A[start : start + rows]
        start += rows
        gate_RF, up_RF = (hidden_TD[token_R] @ w_in_DF.to(hidden_TD.dtype)).chunk(2, dim=-1)
        y_RD = (F.silu(gate_RF) * up_RF) @ w_out_FD.to(hidden_TD.dtype)
        out_TD = out_TD.index_add(0, token_R, y_RD * gate_R[:, None].to(y_RD.dtype))
    return out_TD
