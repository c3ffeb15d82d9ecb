"""Sorting the assignments of a routing by expert: done once per layer and step, shared by backends and measures.

Shapes: T tokens, E experts, A assignments, K assignments per token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strategies import Routing


@dataclass(frozen=True)
class DispatchPlan:
    """A routing in the order in which experts read it. Nothing here waits for the device."""

    token_A: Tensor  # int64, the token of each row, rows sorted by expert
    gate_A: Tensor  # float32, the gate of each row
    routed_gate_A: Tensor  # float32, the gate of each assignment, in the routing's own order
    order_A: Tensor  # int64, the assignment each row was: row r is assignment order_A[r]
    row_A: Tensor | None  # int64, the inverse: the row of assignment a (only if per_token)
    load_E: Tensor  # int64, rows per expert
    ends_E: Tensor  # int32, where each expert's rows end
    per_token: int | None  # K, if every token has exactly K assignments


class _Reorder(torch.autograd.Function):
    """rows[r] = values[order[r]] for a permutation: its gradient is the inverse one, where indexing's would add up."""

    @staticmethod
    def forward(ctx: Any, values_A: Tensor, order_A: Tensor, row_A: Tensor) -> Tensor:
        ctx.save_for_backward(row_A)
        return values_A.index_select(0, order_A)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (row_A,) = ctx.saved_tensors
        return grads[0].index_select(0, row_A), None, None


def plan_dispatch(routing: Routing, num_experts: int) -> DispatchPlan:
    """Sort assignments by expert, stably, so that equal routings give equal sums."""
    expert_A = routing.expert_A
    # small integers sort several times faster than int64
    small = torch.uint8 if num_experts <= 2**8 else torch.int16 if num_experts <= 2**15 else torch.int32
    keys_A = expert_A.to(small)
    order_A = torch.argsort(keys_A, stable=True)
    load_E = torch.zeros(num_experts, dtype=torch.int64, device=expert_A.device)
    load_E.scatter_add_(0, expert_A, torch.ones_like(expert_A))
    row_A = None
    if routing.per_token is not None:
        row_A = torch.empty_like(order_A)
        row_A[order_A] = torch.arange(len(order_A), device=order_A.device)
        token_A = order_A // routing.per_token
        gate_A = _Reorder.apply(routing.gate_A, order_A, row_A)
    else:
        token_A = routing.token_A[order_A]
        gate_A = routing.gate_A.index_select(0, order_A)
    return DispatchPlan(
        token_A=token_A,
        gate_A=gate_A,
        routed_gate_A=routing.gate_A,
        order_A=order_A,
        row_A=row_A,
        load_E=load_E,
        ends_E=load_E.cumsum(0).to(torch.int32),
        per_token=routing.per_token,
    )
