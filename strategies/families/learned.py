"""The plain case: a learned router, the k best scores, nothing else. Rules that only add a loss build on it.

Shapes: T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from strategies.framework.contract import LayerSpec, RouteContext, Routing, Strategy
from strategies.framework.router import LinearRouter, choose, gates, score


class TopKStrategy(Strategy):
    """Top-k of the router's scores; gates are the chosen scores."""

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.router = LinearRouter(spec)

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        experts_TK = choose(scores_TE.detach(), self.spec.top_k)
        return Routing.top_k(experts_TK, gates(scores_TE, experts_TK, self.spec), logits_TE, scores_TE)
