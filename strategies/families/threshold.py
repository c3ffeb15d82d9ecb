"""The family of rules by which experts pick tokens: the best of the batch, or all above a learned threshold.

Shapes: T tokens, E experts, A assignments, C tokens per expert, N bins, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strategies.framework.contract import LayerSpec, Routing, Strategy
from strategies.framework.histogram import histogram, quantile
from strategies.framework.router import LinearRouter, choose, gates, score


class ThresholdStrategy(Strategy):
    """Learns, per expert, the threshold that a share of all tokens passes: the moving average of their quantile.

    Thresholds are taken of `heights`: σ(logit), which for sigmoid scores is the score itself and for √softplus orders
    tokens alike; for softmax scores p it is σ(log E·p). All lie in (0, 1), so that histograms of 1000 bins, summed over
    the global batch, give their quantiles.
    """

    variable_k = True

    @dataclass(frozen=True, kw_only=True)
    class Config:
        ema: float = 0.9  # share of the old threshold that stays at each step; ours, no published value could be read

        def __post_init__(self) -> None:
            if not 0 <= self.ema < 1:
                raise ValueError(f"ema: {self.ema} is impossible; expected 0 or more and less than 1")

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.router = LinearRouter(spec)
        self.threshold_E: Tensor
        self.learned: Tensor  # whether there has been a step: before it there is no threshold
        self.register_buffer("threshold_E", torch.zeros(spec.num_experts))
        self.register_buffer("learned", torch.tensor(False))

    def rebalance(self, load_E: Tensor, pooled: Mapping[str, Tensor]) -> None:
        heights_EN = pooled["heights_EN"]
        cut_E = quantile(heights_EN, 0.0, 1.0, 1 - self.taken_share())
        old_E = torch.where(self.learned, self.threshold_E, cut_E)
        seen_E = heights_EN.sum(dim=1) > 0  # an empty batch teaches nothing
        self.threshold_E.copy_(torch.where(seen_E, old_E.lerp(cut_E, 1 - self.config.ema), self.threshold_E))
        self.learned |= seen_E.all()

    def taken_share(self) -> float:
        """The share of all tokens an expert is to take: K/E."""
        return self.spec.top_k / self.spec.num_experts

    def by_threshold(self, hidden_TD: Tensor) -> Routing:
        """Each token goes to every expert whose threshold it passes; before the first step, to the K best.

        How many assignments there are is only known once the mask is: an accelerator has to wait for it here.
        """
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        heights_TE = self._heights(logits_TE)
        if self.learned:
            token_A, expert_A = (heights_TE > self.threshold_E).nonzero(as_tuple=True)
            routing = self._routing(token_A, expert_A, logits_TE, scores_TE)
        else:
            experts_TK = choose(heights_TE, self.spec.top_k)
            gates_TK = gates(scores_TE, experts_TK, self.spec, normalize=False)
            routing = Routing.top_k(experts_TK, gates_TK, logits_TE, scores_TE)
        return self._observed(routing, heights_TE)

    def by_choice(self, hidden_TD: Tensor, capacity_factor: float) -> Routing:
        """Each expert takes the C = ⌊capacity_factor · TK/E⌋ tokens (at least one) with the highest scores for it."""
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        num_tokens, num_experts = scores_TE.shape
        capacity = min(max(int(capacity_factor * num_tokens * self.spec.top_k / num_experts), 1), num_tokens)
        token_EC = choose(scores_TE.detach().T, capacity)
        expert_A = torch.arange(num_experts, device=hidden_TD.device).repeat_interleave(
            capacity, output_size=num_experts * capacity
        )
        return self._observed(
            self._routing(token_EC.reshape(-1), expert_A, logits_TE, scores_TE), self._heights(logits_TE)
        )

    def _routing(self, token_A: Tensor, expert_A: Tensor, logits_TE: Tensor, scores_TE: Tensor) -> Routing:
        gate_A = scores_TE[token_A, expert_A] * self.spec.route_scale
        return Routing(token_A, expert_A, gate_A, logits_TE=logits_TE, scores_TE=scores_TE)

    def _heights(self, logits_TE: Tensor) -> Tensor:
        logits_TE = logits_TE.detach()
        if self.spec.score == "softmax":
            logits_TE = logits_TE.log_softmax(dim=-1) + math.log(self.spec.num_experts)
        return logits_TE.sigmoid()

    def _observed(self, routing: Routing, heights_TE: Tensor) -> Routing:
        if self.training:
            routing.pooled["heights_EN"] = histogram(heights_TE, 0.0, 1.0)
        return routing
