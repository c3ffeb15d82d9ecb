"""Experts by grouped products between MegaBlocks' gather and scatter kernels.

What MegaBlocks' grouped GLU does, but for one thing: gate and up are one product, as their weights lie side by side,
so weights are used where they are. With torch's grouped product nothing waits for the device; the package
`grouped_gemm` wants the loads on the host, and the host waits for them.

Shapes: T tokens, D width, E experts, F expert width, A assignments (rows), K assignments per token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from suite.backends.dispatch import DispatchPlan
from suite.backends.megablocks import ready, torch_gmm

NATIVE = ready.GMM not in ready.prepare()
STAND_INS = ready.labels(ready.GMM)

ops = ready.module("megablocks.ops")
gmm = ready.module("grouped_gemm.ops").gmm


def bins_of(plan: DispatchPlan) -> Tensor:
    """The expert of each row, (A,) int32."""
    row_A = torch.arange(len(plan.order_A), device=plan.order_A.device, dtype=torch.int32)
    return torch.searchsorted(plan.ends_E, row_A, right=True, out_int32=True)


def swiglu(rows_AD: Tensor, load_E: Tensor, w_in_EDF: Tensor, w_out_EFD: Tensor) -> Tensor:
    """Every row through its expert, (A, D).

    Raises:
        ValueError: float32 with `grouped_gemm`, which knows bfloat16 only.
    """
    product = gmm
    if NATIVE:
        if rows_AD.dtype != torch.bfloat16:
            raise ready.refuse(f"precision: {rows_AD.dtype} is not what grouped_gemm computes in; expected bfloat16")
        load_E = load_E.cpu().long()
        product = gmm if len(rows_AD) else torch_gmm.gmm  # grouped_gemm refuses a batch without rows
    gate_AF, up_AF = product(rows_AD, w_in_EDF, load_E).chunk(2, dim=-1)
    return product(F.silu(gate_AF) * up_AF, w_out_EFD, load_E)


def experts(hidden_TD: Tensor, plan: DispatchPlan, w_in_EDF: Tensor, w_out_EFD: Tensor) -> Tensor:
    """out[t] = Σ over the assignments of t of gate · expert(hidden[t])."""
    if plan.per_token is None:
        # MegaBlocks' kernels know K rows per token; with any other number torch gathers and adds up
        y_AD = swiglu(hidden_TD.index_select(0, plan.token_A), plan.load_E, w_in_EDF, w_out_EFD)
        y_AD = y_AD * plan.gate_A[:, None].to(y_AD.dtype)
        return torch.zeros_like(hidden_TD).index_add(0, plan.token_A, y_AD)
    order_A, bin_A = plan.order_A.int(), bins_of(plan)
    rows_AD = ops.gather(hidden_TD, order_A, bin_A, plan.ends_E, plan.per_token)
    y_AD = swiglu(rows_AD, plan.load_E, w_in_EDF, w_out_EFD)
    return ops.scatter(y_AD, order_A, bin_A, plan.routed_gate_A, plan.ends_E, plan.per_token)
