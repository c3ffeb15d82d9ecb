"""Routings with a given load, to compare backends on.

Shapes: T tokens, E experts, K assignments per token.
"""

from __future__ import annotations

import torch

from strategies import Routing
from suite.words import nearest

LOADS = {
    "even": "experts drawn with equal chances",
    "skewed": "chances fall as 1/rank: a few experts have most of the load",
    "single": "the same K experts have everything",
    "empty": "the upper half of the experts has nothing",
}


def routing(load: str, tokens: int, experts: int, top_k: int, device: torch.device, seed: int = 0) -> Routing:
    """Every token to K different experts, with gates that sum to 1 and ask for a gradient.

    Raises:
        ValueError: a load of another name.
    """
    if load not in LOADS:
        raise ValueError(f"load: {load!r} is unknown; expected one of {', '.join(LOADS)}{nearest(load, LOADS)}")
    generator = torch.Generator().manual_seed(seed)
    weight_E = torch.ones(experts)
    if load == "skewed":
        weight_E = 1 / torch.arange(1, experts + 1)
    elif load == "single":
        weight_E[top_k:] = 0
    elif load == "empty":
        weight_E[max(top_k, experts // 2) :] = 0
    # the K largest of Gumbel-perturbed log-weights are a draw without replacement
    uniform_TE = torch.rand(tokens, experts, generator=generator).clamp_(1e-6, 1 - 1e-6)
    experts_TK = (weight_E.log() - (-uniform_TE.log()).log()).topk(top_k).indices
    gates_TK = torch.rand(tokens, top_k, generator=generator).softmax(dim=1)
    return Routing.top_k(experts_TK.to(device), gates_TK.to(device).requires_grad_())
