"""What is done between the grouped products, as one Triton kernel each: on a GPU these passes over memory are what a
layer loses beside its products. Triton comes with torch's CUDA builds; without it torch's own operations do the same.

Values are computed in float32 and rounded once, where torch's chain of operations in bfloat16 rounds after each.

Shapes: T tokens, D width, F expert width, A assignments (rows), K assignments per token.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor

if AVAILABLE := find_spec("triton") is not None:
    import triton
    import triton.language as tl

    WIDEST = 1024  # elements of a row in a program at once

    @triton.jit
    def _swiglu(in_ptr, gate_ptr, act_ptr, width, BLOCK: tl.constexpr):
        """act[r] = gate[r] · silu(a[r]) · b[r], with in[r] = [a[r] | b[r]]."""
        row = tl.program_id(0).to(tl.int64)
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = column < width
        a = tl.load(in_ptr + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(in_ptr + row * 2 * width + width + column, mask=inside, other=0.0).to(tl.float32)
        gate = tl.load(gate_ptr + row).to(tl.float32)
        act = a * tl.sigmoid(a) * b * gate
        tl.store(act_ptr + row * width + column, act.to(act_ptr.dtype.element_ty), mask=inside)

    @triton.jit
    def _swiglu_backward(in_ptr, gate_ptr, grad_ptr, grad_in_ptr, grad_gate_ptr, width, BLOCK: tl.constexpr):
        """Gradients of a row's two halves and of its gate, from the gradient of act."""
        row = tl.program_id(0).to(tl.int64)
        gate = tl.load(gate_ptr + row).to(tl.float32)
        for_gate = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, width, BLOCK):
            column = start + tl.arange(0, BLOCK)
            inside = column < width
            a = tl.load(in_ptr + row * 2 * width + column, mask=inside, other=0.0).to(tl.float32)
            b = tl.load(in_ptr + row * 2 * width + width + column, mask=inside, other=0.0).to(tl.float32)
            grad = tl.load(grad_ptr + row * width + column, mask=inside, other=0.0).to(tl.float32)
            sigmoid = tl.sigmoid(a)
            silu = a * sigmoid
            for_gate += silu * b * grad
            grad_a = gate * grad * b * sigmoid * (1.0 + a * (1.0 - sigmoid))
            grad_b = gate * grad * silu
            out = grad_in_ptr + row * 2 * width + column
            tl.store(out, grad_a.to(grad_in_ptr.dtype.element_ty), mask=inside)
            tl.store(out + width, grad_b.to(grad_in_ptr.dtype.element_ty), mask=inside)
        tl.store(grad_gate_ptr + row, tl.sum(for_gate, 0).to(grad_gate_ptr.dtype.element_ty))

    @triton.jit
    def _sum_rows(rows_ptr, row_ptr, out_ptr, width, K: tl.constexpr, BLOCK: tl.constexpr):
        """out[t] = Σ_k rows[row[t, k]], in the order of k."""
        token = tl.program_id(0).to(tl.int64)
        column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = column < width
        total = tl.zeros((BLOCK,), tl.float32)
        for k in tl.static_range(K):
            row = tl.load(row_ptr + token * K + k)
            total += tl.load(rows_ptr + row * width + column, mask=inside, other=0.0).to(tl.float32)
        tl.store(out_ptr + token * width + column, total.to(out_ptr.dtype.element_ty), mask=inside)


def usable(tensor: Tensor) -> bool:
    """Whether the kernels are for this tensor: it lies on a GPU, and Triton is installed."""
    return AVAILABLE and tensor.is_cuda


def _block(width: int) -> tuple[int, int]:
    """Elements of a row at once, and warps to compute them with."""
    block = min(WIDEST, max(16, triton.next_power_of_2(width)))
    return block, max(1, min(4, block // 256))


def swiglu(in_AF: Tensor, gate_A: Tensor) -> Tensor:
    """act = gate · silu(a) · b for in = [a | b], (A, F) from (A, 2F) and (A,)."""
    rows, width = in_AF.shape[0], in_AF.shape[1] // 2
    act_AF = in_AF.new_empty(rows, width)
    if rows:
        block, warps = _block(width)
        grid = (rows, triton.cdiv(width, block))
        _swiglu[grid](in_AF.contiguous(), gate_A.contiguous(), act_AF, width, BLOCK=block, num_warps=warps)
    return act_AF


def swiglu_backward(in_AF: Tensor, gate_A: Tensor, grad_AF: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of `in`, (A, 2F), and of the gate, (A,)."""
    rows, width = grad_AF.shape
    grad_in_AF, grad_gate_A = torch.empty_like(in_AF), torch.empty_like(gate_A)
    if rows:
        block, warps = _block(width)
        given = (in_AF.contiguous(), gate_A.contiguous(), grad_AF.contiguous())
        _swiglu_backward[(rows,)](*given, grad_in_AF, grad_gate_A, width, BLOCK=block, num_warps=warps)
    return grad_in_AF, grad_gate_A


def sum_rows(rows_AD: Tensor, row_A: Tensor, k: int) -> Tensor:
    """out[t] = Σ_k rows[row[t · K + k]], (T, D)."""
    tokens, width = len(row_A) // k, rows_AD.shape[1]
    out_TD = rows_AD.new_empty(tokens, width)
    if tokens:
        block, warps = _block(width)
        grid = (tokens, triton.cdiv(width, block))
        _sum_rows[grid](rows_AD.contiguous(), row_A, out_TD, width, K=k, BLOCK=block, num_warps=warps)
    return out_TD
