"""Stands in for `megablocks_ops`, MegaBlocks' CUDA extension of index arithmetic. Nothing here waits for the device.

Functions write into `out` tensors where the extension's do. Shapes: N values, R rows of values, E bins, B blocks.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sort(values_N: Tensor, end_bit: int, out_N: Tensor, order_N: Tensor) -> None:
    """Values in ascending order, equal ones in their old order, and where each of them was.

    `end_bit` tells a radix sort which bits matter; this one looks at all of them.
    """
    sorted_N, places_N = torch.sort(values_N, stable=True)
    out_N.copy_(sorted_N)
    order_N.copy_(places_N)


def histogram(values: Tensor, num_bins: int) -> Tensor:
    """How often each of 0 … num_bins − 1 occurs, int32: (E,) for (N,), (R, E) for (R, N)."""
    values_RN = values[None] if values.ndim == 1 else values
    count_RE = torch.zeros(len(values_RN), num_bins, dtype=torch.int32, device=values.device)
    count_RE.scatter_add_(1, values_RN.long(), torch.ones_like(values_RN, dtype=torch.int32))
    return count_RE[0] if values.ndim == 1 else count_RE


def inclusive_cumsum(values_RN: Tensor, dim: int, out_RN: Tensor) -> None:
    """Sums up to and with each value."""
    out_RN.copy_(values_RN.cumsum(dim))


def exclusive_cumsum(values_RN: Tensor, dim: int, out_RN: Tensor) -> None:
    """Sums of what is before each value."""
    out_RN.copy_(values_RN.cumsum(dim) - values_RN)


def indices(padded_ends_E: Tensor, block: int, rows: int, columns: int, out_B: Tensor) -> None:
    """Columns of the blocks of a block-diagonal matrix: those of expert e start at e · columns.

    Args:
        padded_ends_E: where each expert's rows end, in multiples of `block`.
        rows, columns: block rows of the matrix, and block columns of one expert.
        out_B: (rows · columns,).
    """
    row_R = torch.arange(rows, device=padded_ends_E.device, dtype=padded_ends_E.dtype)
    expert_R = torch.searchsorted(padded_ends_E // block, row_R, right=True)
    column_C = torch.arange(columns, device=padded_ends_E.device)
    out_B.copy_((expert_R[:, None] * columns + column_C).flatten())


def replicate_forward(values_RE: Tensor, ends_E: Tensor, out_RN: Tensor) -> None:
    """Value e repeated up to place ends[e]."""
    place_N = torch.arange(out_RN.shape[1], device=ends_E.device, dtype=ends_E.dtype)
    out_RN.copy_(values_RE.index_select(1, torch.searchsorted(ends_E, place_N, right=True)))


def replicate_backward(grad_RN: Tensor, ends_E: Tensor, out_RE: Tensor) -> None:
    """Sum of the gradient over the places of each value."""
    place_N = torch.arange(grad_RN.shape[1], device=ends_E.device, dtype=ends_E.dtype)
    sum_RE = torch.zeros_like(out_RE, dtype=torch.float32)
    out_RE.copy_(sum_RE.index_add_(1, torch.searchsorted(ends_E, place_N, right=True), grad_RN.float()))
