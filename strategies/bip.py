"""BIP-based balancing: a few dual iterations of the balanced assignment on the very batch that is routed.

Shapes: T tokens, E experts, K experts per token, N bins, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strategies.framework.contract import Balances, Knob, LayerSpec, Paper, RouteContext, Routing, Strategy
from strategies.framework.histogram import histogram, quantile
from strategies.framework.router import LinearRouter, choose, gates, score


class Bip(Strategy):
    """max Σ s_ij x_ij with K experts per token and at most KT/E tokens per expert, through its dual prices q.

    Training, on the micro-batch of one process, `iterations` times: p_i = max(0, (K+1)-th largest of s_i − q), then
    q_j = max(0, (KT/E + 1)-th largest of s_j − p); the K best of s − q are chosen. That looks at later tokens, so it is
    not causal. The rule is from memory of the paper and a secondary statement of its linear program.

    Between steps each layer keeps prices: one dual iteration from the kept prices, on the global batch (by histogram),
    so that they depend neither on its split nor on the ranks. Training starts from them, and inference, where there is
    no batch to solve for, uses them as they are. That is our reading of the "additional vector q" a layer maintains.
    """

    name = "bip"
    title = "BIP"
    paper = Paper(
        "Sun, Binary-Integer-Programming Based Algorithm for Expert Load Balancing in Mixture-of-Experts Models",
        2025,
        "arXiv:2502.15451",
    )
    causal = False
    knob = Knob("iterations", (1, 2, 4, 8, 14))
    balances = Balances(max_vio=0.5, steps=10)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        iterations: int = 4  # T: the paper tries 2 to 14 (from memory)

        def __post_init__(self) -> None:
            if self.iterations < 1:
                raise ValueError(f"iterations: {self.iterations} is impossible; expected a positive integer")

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.router = LinearRouter(spec)
        self.highest = 4.0 if spec.score == "sqrt_softplus" else 1.0  # of a price; √softplus(16) is 4
        self.price_E: Tensor
        self.register_buffer("price_E", torch.zeros(spec.num_experts))

    @classmethod
    def unsupported(cls, spec: LayerSpec) -> str | None:
        if spec.top_k == spec.num_experts:
            return f"top_k = {spec.top_k} leaves no expert out; expected fewer than num_experts"
        return None

    def selection_bias(self) -> Tensor:
        return -self.price_E

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        values_TE = scores_TE.detach()
        price_E = self.price_E
        if self.training:
            surplus_T1 = self._surplus(values_TE, self.price_E)
            seen_EN = histogram(values_TE - surplus_T1, 0.0, self.highest)  # a price is never negative
            price_E = self._solve(values_TE)
        experts_TK = choose(values_TE - price_E, self.spec.top_k)
        routing = Routing.top_k(experts_TK, gates(scores_TE, experts_TK, self.spec), logits_TE, scores_TE)
        if self.training:
            routing.pooled["seen_EN"] = seen_EN
        return routing

    def _solve(self, values_TE: Tensor) -> Tensor:
        """Prices of this batch, (E,). A token with NaN wants nothing."""
        values_TE = values_TE.nan_to_num(nan=0.0)
        num_tokens = len(values_TE)
        capacity = self.spec.top_k * num_tokens // self.spec.num_experts
        price_E = self.price_E
        for _ in range(self.config.iterations):
            left_TE = values_TE - self._surplus(values_TE, price_E)
            price_E = left_TE.kthvalue(num_tokens - capacity, dim=0).values.clamp_min(0)
        return price_E

    def _surplus(self, values_TE: Tensor, price_E: Tensor) -> Tensor:
        """p, (T, 1): what a token would have left at its first expert not chosen."""
        return (values_TE - price_E).topk(self.spec.top_k + 1, dim=-1).values[:, -1:].clamp_min(0)

    def rebalance(self, load_E: Tensor, pooled: Mapping[str, Tensor]) -> None:
        seen_EN = pooled["seen_EN"]
        cut_E = quantile(seen_EN, 0.0, self.highest, 1 - self.spec.top_k / self.spec.num_experts)
        self.price_E.copy_(torch.where(seen_EN.sum(dim=1) > 0, cut_E, self.price_E))  # an empty batch moves nothing
