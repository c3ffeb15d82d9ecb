"""Expert parallelism: every rank computes its share of the experts, for the tokens of all ranks.

MegaBlocks' parallel layer sends each token to the ranks of its experts and the results back (all-to-all over the
default process group). Parameters stay whole on every rank, as the engine's data parallelism has them: this measures
and trains as expert parallelism does, and saves no memory. Gradients then are what data parallelism would give: the
owner of an expert has the sum over all ranks' tokens, the others have zero, and averaging over ranks gives the mean.

The host waits for the counts that are exchanged: twice per layer. On one process it is the `megablocks` backend.

Shapes: T tokens of this rank, D width, E experts, L experts of this rank, F expert width, A assignments,
K assignments per token.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from suite.backends.dispatch import DispatchPlan
from suite.backends.megablocks import grouped, ready

STAND_INS = ready.labels(ready.GMM, ready.OPS)

layers = ready.module("megablocks.layers.dmoe")


class Share(nn.Module):
    """This rank's experts, where MegaBlocks' layer has a network of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: tuple[Tensor, Tensor] | None = None

    def forward(self, rows_AD: Tensor, load_L: Tensor) -> Tensor:
        assert self.weights is not None
        return grouped.swiglu(rows_AD, load_L, *self.weights)


@lru_cache
def layer_of(width: int, num_experts: int, per_token: int) -> Any:
    """MegaBlocks' layer for the default process group; it holds no weights.

    Raises:
        ValueError: the ranks cannot have equal numbers of experts.
    """
    ranks = dist.get_world_size()
    if num_experts % ranks:
        raise ready.refuse(f"experts: {num_experts} over {ranks} ranks is uneven; expected a multiple of {ranks}")
    arguments = layers.Arguments(
        hidden_size=width,
        ffn_hidden_size=128,  # it sizes weights that are not there
        moe_num_experts=num_experts,
        moe_top_k=per_token,
        moe_loss_weight=0.0,
        moe_expert_model_parallelism=True,
        mlp_type="glu",
        mlp_impl="grouped",
        fp16=False,
        bias=False,
        return_bias=False,
        device=torch.device("meta"),
    )
    layer = layers.ParallelDroplessMLP(arguments)
    layer.mlp = Share()
    return layer


def experts(hidden_TD: Tensor, plan: DispatchPlan, w_in_EDF: Tensor, w_out_EFD: Tensor) -> Tensor:
    """out[t] = Σ over the assignments of t of gate · expert(hidden[t]); all ranks call it together.

    Raises:
        ValueError: the ranks cannot have equal numbers of experts.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return grouped.experts(hidden_TD, plan, w_in_EDF, w_out_EFD)
    num_experts, width, _ = w_in_EDF.shape
    layer = layer_of(width, num_experts, plan.per_token or 1)
    size = num_experts // dist.get_world_size()
    mine = slice(dist.get_rank() * size, (dist.get_rank() + 1) * size)
    bin_A = grouped.bins_of(plan)
    layer.mlp.weights = w_in_EDF[mine], w_out_EFD[mine]
    if plan.per_token is not None:
        assert plan.row_A is not None
        return layer.forward_fn(hidden_TD, plan.routed_gate_A, bin_A.index_select(0, plan.row_A))[0]
    rows_AD = hidden_TD.index_select(0, plan.token_A)
    y_AD, _ = layer.forward_fn(rows_AD, plan.gate_A, bin_A)
    return torch.zeros_like(hidden_TD).index_add(0, plan.token_A, y_AD)
