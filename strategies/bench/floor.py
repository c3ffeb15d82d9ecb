"""The noise floor: the MaxVio that sampling alone gives when every expert is equally likely.

Shapes: R repetitions, T tokens, E experts, K experts per token.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

WORK = 1 << 22  # random numbers drawn at once
BUDGET = 10_000_000  # random numbers drawn in all, unless eight batches need more


@functools.lru_cache(maxsize=256)
def noise_floor(tokens: int, top_k: int, experts: int, repetitions: int = 4000, seed: int = 0) -> float:
    """Mean of (max_j n_j − n̄)/n̄ over batches of `tokens` independent tokens with K distinct, equally likely experts.

    Simulated, not approximated (for K = 1 the counts are multinomial): √(2 ln E/n̄) is off by a fifth at common sizes.
    Fewer repetitions are made where they would need more than `BUDGET` random numbers; the mean is then coarser.
    """
    stream = torch.Generator().manual_seed(seed)
    repetitions = max(8, min(repetitions, BUDGET // (tokens * top_k)))
    expected = tokens * top_k / experts
    total = 0.0
    for _ in range(repetitions):
        load_E = torch.zeros(experts, dtype=torch.int64)
        left = tokens
        while left:
            part = min(left, max(1, WORK // experts))
            load_E += torch.bincount(_distinct(part, top_k, experts, stream).flatten(), minlength=experts)
            left -= part
        total += float(load_E.max()) / expected - 1
    return total / repetitions


def _distinct(tokens: int, top_k: int, experts: int, stream: torch.Generator) -> Tensor:
    """K distinct experts per token, all sets equally likely, (T, K): drawn again where one repeats."""
    if top_k * top_k > experts:  # repetitions would be the rule
        return torch.rand(tokens, experts, generator=stream).topk(top_k, dim=-1).indices
    chosen_TK = torch.randint(experts, (tokens, top_k), generator=stream)
    while True:
        sorted_TK = chosen_TK.sort(dim=-1).values
        again_T = (sorted_TK[:, 1:] == sorted_TK[:, :-1]).any(-1).nonzero().squeeze(-1)
        if not len(again_T):
            return chosen_TK
        chosen_TK[again_T] = torch.randint(experts, (len(again_T), top_k), generator=stream)
