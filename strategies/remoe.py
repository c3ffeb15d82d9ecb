"""ReMoE: ReLU routing; a token goes to every expert with a positive logit, and a penalty keeps them K on average.

Shapes: T tokens, E experts, K experts per token on average, A assignments, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strategies.framework.contract import Knob, LayerSpec, Paper, RouteContext, Routing, Strategy, Waived
from strategies.framework.router import LinearRouter, count

SMALLEST, LARGEST = 1e-30, 1e30  # λ moves by factors: at zero or infinity it could never come back


class ReMoE(Strategy):
    """Gates r = ReLU(logits); L = λ · E/(kT²) · Σ_j n_j Σ_t r_tj over the micro-batch (the load-balanced L1 penalty).

    After each step λ ← λ · factor if the global batch was less sparse than 1 − k/E, else λ / factor. The rule is the
    authors' code; λ is kept per layer here, from that layer's own sparsity (there, one for the model). ReLU takes the
    place of the layer's score function. At first about half of the experts are active for each token.
    """

    name = "remoe"
    title = "ReMoE"
    paper = Paper(
        "Wang et al., ReMoE: Fully Differentiable Mixture-of-Experts with ReLU Routing", 2024, "arXiv:2412.14711"
    )
    knob = Knob("coefficient", (1e-8, 1e-6, 1e-4, 1e-3, 1e-2))
    variable_k = True
    auxiliary = ("sparsity",)
    balances = Waived("its penalty balances only against a task that wants experts active")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        coefficient: float = 1e-8  # λ at the start, the authors' code
        factor: float = 1.2  # how much λ changes in a step, the authors' code

        def __post_init__(self) -> None:
            if not SMALLEST <= self.coefficient <= LARGEST:
                raise ValueError(f"coefficient: {self.coefficient} is impossible; expected {SMALLEST} … {LARGEST}")
            if self.factor < 1:
                raise ValueError(f"factor: {self.factor} is impossible; expected 1 or more")

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.router = LinearRouter(spec)
        self.coefficient: Tensor
        self.register_buffer("coefficient", torch.tensor(float(self.config.coefficient)))

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        logits_TE = self.router(hidden_TD)
        scores_TE = logits_TE.relu()
        token_A, expert_A = (scores_TE.detach() > 0).nonzero(as_tuple=True)
        gate_A = scores_TE[token_A, expert_A] * self.spec.route_scale
        routing = Routing(token_A, expert_A, gate_A, logits_TE=logits_TE, scores_TE=scores_TE)
        if self.training:
            num_tokens = len(tokens_T)
            share_E = count(expert_A, self.spec.num_experts) * (self.spec.num_experts / (self.spec.top_k * num_tokens))
            routing.losses["sparsity"] = self.coefficient.clone() * (share_E * scores_TE.mean(dim=0)).sum()
            routing.pooled["tokens"] = torch.full((), float(num_tokens), device=hidden_TD.device)
        return routing

    def rebalance(self, load_E: Tensor, pooled: Mapping[str, Tensor]) -> None:
        too_many = load_E.sum() > self.spec.top_k * pooled["tokens"]
        factor = self.config.factor
        self.coefficient *= torch.where(too_many, factor, 1 / factor)
        self.coefficient.clamp_(SMALLEST, LARGEST)
