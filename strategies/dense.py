"""The dense twin: the same active FLOPs per token, without a choice.

Shapes: T tokens, K experts, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from strategies.framework.contract import LayerSpec, RouteContext, Routing, Strategy, Waived


class Dense(Strategy):
    """Builds K experts and sends every token to all of them with gate 1: one feed-forward layer, K times as wide."""

    name = "dense"
    title = "Dense, equal FLOPs"
    has_router = False
    fixed_rule = True
    task_trains_router = False
    balances = Waived("every token goes to every expert there is")

    @classmethod
    def experts_to_build(cls, spec: LayerSpec) -> int:
        return spec.top_k

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        experts_K = torch.arange(self.spec.top_k, device=hidden_TD.device)
        experts_TK = experts_K.expand(len(tokens_T), -1)
        return Routing.top_k(experts_TK, torch.ones_like(experts_TK, dtype=torch.float32))
