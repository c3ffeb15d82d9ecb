"""Expert choice: experts pick tokens, so every expert gets equally many.

Shapes: T tokens, E experts, K experts per token on average, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from strategies.families.threshold import ThresholdStrategy
from strategies.framework.contract import Balances, Knob, Paper, Published, RouteContext, Routing
from strategies.framework.router import choose, gates, score


class ExpertChoice(ThresholdStrategy):
    """Training: each expert takes its C = c·TK/E best tokens of the micro-batch; gates are the scores (section 3).

    Whether a token is taken depends on later tokens, so training is not causal and a decoder cannot route so. The paper
    leaves inference open; a decoder here sends a token to every expert whose learned cut-off it passes ("threshold",
    which keeps the trained number of assignments and lets it vary by token, as in training), or to its K best
    ("top_k").
    """

    name = "expert_choice"
    title = "Expert choice"
    paper = Paper("Zhou et al., Mixture-of-Experts with Expert Choice Routing", 2022, "arXiv:2202.09368")
    published = Published("softmax", False)  # section 3
    causal = False
    knob = Knob("ema", (0.0, 0.5, 0.9, 0.97, 0.99))  # not c: it changes the FLOPs
    balances = Balances(max_vio=0.01, steps=1)

    @dataclass(frozen=True, kw_only=True)
    class Config(ThresholdStrategy.Config):
        capacity_factor: float = 1.0  # c over the layer's K: 1 is the FLOPs of the other strategies
        inference: Literal["threshold", "top_k"] = "threshold"

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.capacity_factor <= 0:
                raise ValueError(f"capacity_factor: {self.capacity_factor} is impossible; expected more than 0")

    def taken_share(self) -> float:
        return min(1.0, self.config.capacity_factor * super().taken_share())

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        if self.training:
            return self.by_choice(hidden_TD, self.config.capacity_factor)
        if self.config.inference == "threshold":
            return self.by_threshold(hidden_TD)
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        experts_TK = choose(scores_TE.detach(), self.spec.top_k)
        gates_TK = gates(scores_TE, experts_TK, self.spec, normalize=False)
        return Routing.top_k(experts_TK, gates_TK, logits_TE, scores_TE)
