"""Sort once, then two grouped matrix products: the default, the same code on CPU and GPU.

Gathering and combining are written with their own backward. Autograd would scatter-add; since every token has exactly
K rows at known places, its gradient is a gather and a sum: faster, and in a fixed order.

Shapes: T tokens, D width, E experts, F expert width, A assignments (rows), K assignments per token.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from suite.backends import fused
from suite.backends.dispatch import DispatchPlan


def _sum_rows(rows_AD: Tensor, row_A: Tensor, k: int) -> Tensor:
    """out[t] = Σ_k rows[row[t · K + k]]"""
    if fused.usable(rows_AD):
        return fused.sum_rows(rows_AD, row_A, k)
    return rows_AD.index_select(0, row_A).view(-1, k, rows_AD.shape[-1]).sum(1)


class _Gather(torch.autograd.Function):
    """rows[r] = hidden[token[r]]"""

    @staticmethod
    def forward(ctx: Any, hidden_TD: Tensor, token_A: Tensor, row_A: Tensor, k: int) -> Tensor:
        ctx.save_for_backward(row_A)
        ctx.k = k
        return hidden_TD.index_select(0, token_A)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (row_A,) = ctx.saved_tensors
        return _sum_rows(grads[0], row_A, ctx.k), None, None, None


class _Combine(torch.autograd.Function):
    """out[t] = Σ_k rows[row[t, k]] (the gate is already in the rows)"""

    @staticmethod
    def forward(ctx: Any, rows_AD: Tensor, token_A: Tensor, row_A: Tensor, k: int) -> Tensor:
        ctx.save_for_backward(token_A)
        return _sum_rows(rows_AD, row_A, k)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (token_A,) = ctx.saved_tensors
        return grads[0].index_select(0, token_A), None, None, None


CHUNK_BYTES = {"cpu": 2**20}  # of input activated at once, where that matters: about a core's second-level cache


def _chunk_rows(in_AF: Tensor) -> int:
    limit = CHUNK_BYTES.get(in_AF.device.type)
    return max(1, len(in_AF)) if limit is None else max(64, limit // (4 * in_AF.shape[1]))


class _GatedSwiGLU(torch.autograd.Function):
    """act = gate · silu(a) · b for in = [a | b]: only `in` and the gate are kept for backward."""

    @staticmethod
    def forward(ctx: Any, in_AF: Tensor, gate_A: Tensor) -> Tensor:
        ctx.save_for_backward(in_AF, gate_A)
        if fused.usable(in_AF):
            return fused.swiglu(in_AF, gate_A)
        a_AF, b_AF = in_AF.chunk(2, dim=-1)
        return F.silu(a_AF).mul_(b_AF).mul_(gate_A[:, None])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        in_AF, gate_A = ctx.saved_tensors
        if fused.usable(in_AF):
            return fused.swiglu_backward(in_AF, gate_A, grads[0])
        grad_in_AF, grad_gate_A = torch.empty_like(in_AF), torch.empty_like(gate_A)
        rows = _chunk_rows(in_AF)
        parts = (tensor.split(rows) for tensor in (in_AF, gate_A, grads[0], grad_in_AF, grad_gate_A))
        for in_RF, gate_R, grad_RF, grad_in_RF, grad_gate_R in zip(*parts, strict=True):
            (a_RF, b_RF), (grad_a_RF, grad_b_RF) = in_RF.chunk(2, dim=-1), grad_in_RF.chunk(2, dim=-1)
            gated_RF = grad_RF * gate_R[:, None]
            silu_RF = F.silu(a_RF)
            torch.mul(silu_RF, gated_RF, out=grad_b_RF)
            torch.sum(silu_RF.mul_(b_RF).mul_(grad_RF), dim=-1, out=grad_gate_R)
            torch.ops.aten.silu_backward.grad_input(gated_RF.mul_(b_RF), a_RF, grad_input=grad_a_RF)
        return grad_in_AF, grad_gate_A


def experts(hidden_TD: Tensor, plan: DispatchPlan, w_in_EDF: Tensor, w_out_EFD: Tensor) -> Tensor:
    """out[t] = Σ over the assignments of t of gate · expert(hidden[t])."""
    dtype = hidden_TD.dtype
    gate_A = plan.gate_A.to(dtype)
    if plan.per_token is not None and plan.row_A is not None:
        rows_AD = _Gather.apply(hidden_TD, plan.token_A, plan.row_A, plan.per_token)
    else:
        rows_AD = hidden_TD.index_select(0, plan.token_A)
    in_AF = F.grouped_mm(rows_AD, w_in_EDF.to(dtype), offs=plan.ends_E)
    act_AF = _GatedSwiGLU.apply(in_AF, gate_A)
    y_AD = F.grouped_mm(act_AF, w_out_EFD.to(dtype), offs=plan.ends_E)
    if plan.per_token is not None and plan.row_A is not None:
        return _Combine.apply(y_AD, plan.token_A, plan.row_A, plan.per_token)
    return torch.zeros_like(hidden_TD).index_add(0, plan.token_A, y_AD)
