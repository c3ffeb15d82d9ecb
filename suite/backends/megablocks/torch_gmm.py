"""Stands in for the package `grouped_gemm`, its modules `ops` and `backend` alike: one product per expert, at once.

Shapes: R rows sorted by expert, E experts, D and N widths.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def gmm(
    a: Tensor, b: Tensor, batch_sizes_E: Tensor, trans_a: bool = False, trans_b: bool = False, c: Tensor | None = None
) -> Tensor:
    """Expert e's rows of `a` times its matrix of `b`; with `trans_a`, its rows of `a` transposed times its rows of `b`.

    Args:
        a: (R, D).
        b: (E, D, N), or (E, N, D) with `trans_b`, or (R, N) with `trans_a`.
        batch_sizes_E: rows of each expert, integers on any device; on `a`'s device nothing waits.
        c: where to put the result, if anywhere.

    Returns:
        (R, N), or (E, D, N) with `trans_a`; `c` if it is given.
    """
    ends_E = batch_sizes_E.to(a.device, non_blocking=True).cumsum(0).to(torch.int32)
    left, right = (a.mT, b) if trans_a else (a, b.mT if trans_b else b)
    product = F.grouped_mm(left, right, offs=ends_E)
    return product if c is None else c.copy_(product)
