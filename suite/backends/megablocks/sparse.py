"""Experts by block-sparse products: MegaBlocks' first way, rows padded to blocks of 128.

What MegaBlocks' sparse GLU does. Its products read weights as (E·F, D): `w_out_EFD` is that already, `w_in_EDF` is
brought into that order in every step. How many blocks there are is read from the device: once going forward, once
going back.

MegaBlocks refuses this way from Triton 3.2 on. Since then indices of 16 bits stay 16 bits wide when multiplied by the
block size, which overflows from block 256 on; here they are widened first.

Shapes: T tokens, D width, E experts, F expert width, A assignments (rows), P rows with padding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from suite.backends.dispatch import DispatchPlan
from suite.backends.megablocks import ready
from suite.backends.megablocks.grouped import bins_of

STAND_INS = ready.labels(ready.OPS)

ops = ready.module("megablocks.ops")
stk = ready.module("stk")
layers = ready.module("megablocks.layers.dmoe")
activation = ready.module("megablocks.layers.activation_fn")

BLOCK = 128
MOST = 2**31  # its kernels address with 32 bits


@lru_cache
def layout(width: int, num_experts: int, expert_width: int) -> Any:
    """MegaBlocks' layer, of which only the topology is used: it holds no weights.

    Raises:
        ValueError: widths that are no whole blocks, or more weights than 32 bits can address.
    """
    for name, value in (("width", width), ("expert_width", expert_width)):
        if value % BLOCK:
            raise ready.refuse(f"{name}: {value} is not made of whole blocks; expected a multiple of {BLOCK}")
    if num_experts * expert_width * width >= MOST:
        size = f"experts × expert_width × width: {num_experts * expert_width * width}"
        raise ready.refuse(f"{size} is more than block-sparse products can address; expected less than {MOST}")
    arguments = layers.Arguments(
        hidden_size=width,
        ffn_hidden_size=expert_width,
        moe_num_experts=num_experts,
        moe_loss_weight=0.0,
        mlp_type="glu",
        mlp_impl="grouped",
        fp16=False,
        bias=False,
        return_bias=False,
        device=torch.device("meta"),
    )
    return layers.ParallelDroplessMLP(arguments)


def topology(rows_PD: Tensor, padded_ends_E: Tensor, layer: Any) -> Any:
    """Which blocks of the (P, E·F) activations are there: those of each row's own expert."""
    if len(rows_PD) * layer.ffn_hidden_size >= MOST:
        size = f"rows × expert_width: {len(rows_PD) * layer.ffn_hidden_size}"
        raise ready.refuse(f"{size} is more than block-sparse products can address; expected less than {MOST}")
    narrow = layer.topology(rows_PD, padded_ends_E)
    return stk.Matrix(
        narrow.size(),
        narrow.data,
        narrow.row_indices.int(),
        narrow.column_indices.int(),
        narrow.offsets,
        narrow.column_indices_t.int(),
        narrow.offsets_t,
        narrow.block_offsets_t,
    )


def swiglu(rows_PD: Tensor, padded_ends_E: Tensor, w_in_EDF: Tensor, w_out_EFD: Tensor) -> Tensor:
    """Every row through its expert, (P, D)."""
    num_experts, expert_width, width = w_out_EFD.shape
    layer = layout(width, num_experts, expert_width)
    with torch.no_grad():
        blocks = topology(rows_PD, padded_ends_E, layer)
    w_gate, w_up = (part_EDF.mT.reshape(-1, width) for part_EDF in w_in_EDF.chunk(2, dim=-1))
    gate = stk.ops.sdd(rows_PD, w_gate.T, blocks)
    up = stk.ops.sdd(rows_PD, w_up.T, blocks)
    return stk.ops.dsd(stk.ops.mul(activation.act_fn(gate, F.silu), up), w_out_EFD.view(-1, width))


def experts(hidden_TD: Tensor, plan: DispatchPlan, w_in_EDF: Tensor, w_out_EFD: Tensor) -> Tensor:
    """out[t] = Σ over the assignments of t of gate · expert(hidden[t]).

    Raises:
        ValueError: sizes that block-sparse products cannot have; bfloat16 without a GPU.
    """
    if not hidden_TD.is_cuda and hidden_TD.dtype != torch.float32:
        # Triton's interpreter multiplies matrices in NumPy, which takes bfloat16's bits for integers
        raise ready.refuse(f"precision: {hidden_TD.dtype} needs a GPU for block-sparse products; expected float32")
    bin_A, ends_E = bins_of(plan), plan.ends_E
    padded_ends_E = ((plan.load_E + BLOCK - 1) // BLOCK * BLOCK).cumsum(0).int()
    if plan.per_token is None:
        # any number of rows per token: gathered by torch, each then counts as a token with one expert
        rows_AD, per_token, gate_A = hidden_TD.index_select(0, plan.token_A), 1, plan.gate_A
        order_A = torch.arange(len(bin_A), device=bin_A.device, dtype=torch.int32)
    else:
        rows_AD, per_token, gate_A = hidden_TD, plan.per_token, plan.routed_gate_A
        order_A = plan.order_A.int()
    rows_PD = ops.padded_gather(rows_AD, order_A, bin_A, ends_E, padded_ends_E, per_token)
    y_PD = swiglu(rows_PD, padded_ends_E, w_in_EDF, w_out_EFD)
    y_TD = ops.padded_scatter(y_PD, order_A, bin_A, gate_A, ends_E, padded_ends_E, per_token)
    return y_TD if plan.per_token is not None else torch.zeros_like(hidden_TD).index_add(0, plan.token_A, y_TD)
