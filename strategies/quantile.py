"""Quantile balancing: each step solves for the biases that would have balanced the last batch.

Shapes: T tokens, E experts, K experts per token, N bins, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from strategies.families.biased import BiasedSelection
from strategies.framework.contract import Balances, Knob, LayerSpec, Paper, Published, RouteContext, Routing
from strategies.framework.histogram import histogram, quantile
from strategies.framework.router import gates, score


class Quantile(BiasedSelection):
    """b_j ← the K/E quantile over tokens of α_i − s_ij, then b ← b − mean b; α_i is token i's (K+1)-th best s + b.

    α_i − s_ij is the bias at which token i would choose expert j; at the quantile, a share K/E of the tokens would.
    The quantile covers the global batch: a histogram of 1000 bins on [min b − 1, max b + 1], linear within a bin.
    (Su, scientific spaces 11619; Kimi K3 report, section 2.3.3 and appendix D; read through the implementers' notes.)

    The range is made for scores in (0, 1); larger ones count in its last bins, and the bias follows over several steps.
    """

    name = "quantile"
    title = "Quantile balancing"
    paper = Paper("Moonshot AI, Kimi K3 technical report, section 2.3.3", 2026, "kexue.fm/archives/11619")
    published = Published("sigmoid", True)
    knob = Knob("ema", (0.0, 0.5, 0.75, 0.9, 0.95))
    balances = Balances(max_vio=0.3, steps=100)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        ema: float = 0.0  # share of the old bias that stays: 0 in Kimi K3 and by default in Megatron

        def __post_init__(self) -> None:
            if not 0 <= self.ema < 1:
                raise ValueError(f"ema: {self.ema} is impossible; expected 0 or more and less than 1")

    @classmethod
    def unsupported(cls, spec: LayerSpec) -> str | None:
        if spec.top_k == spec.num_experts:
            return f"top_k = {spec.top_k} leaves no expert out; expected fewer than num_experts"
        return None

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        k = self.spec.top_k
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        best = self.select(scores_TE.detach()).nan_to_num(nan=-torch.inf).topk(k + 1, dim=-1)
        experts_TK = best.indices[:, :k]
        routing = Routing.top_k(experts_TK, gates(scores_TE, experts_TK, self.spec), logits_TE, scores_TE)
        if self.training:
            needed_TE = best.values[:, k:] - scores_TE.detach()
            routing.pooled["needed_EN"] = histogram(needed_TE, *self._range())
        return routing

    def rebalance(self, load_E: Tensor, pooled: Mapping[str, Tensor]) -> None:
        needed_EN = pooled["needed_EN"]
        solved_E = quantile(needed_EN, *self._range(), self.spec.top_k / self.spec.num_experts)
        solved_E = torch.where(needed_EN.sum(dim=1) > 0, solved_E, self.bias_E)  # an empty batch moves nothing
        self.bias_E.lerp_(solved_E, 1 - self.config.ema)
        self.bias_E -= self.bias_E.mean()

    def _range(self) -> tuple[Tensor, Tensor]:
        return self.bias_E.min() - 1, self.bias_E.max() + 1
