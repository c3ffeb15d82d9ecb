"""Sinkhorn routing: in training, top-k of a transport plan whose columns are balanced.

Shapes: T tokens, E experts, K experts per token, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from strategies.families.learned import TopKStrategy
from strategies.framework.contract import Balances, Knob, Paper, Published, RouteContext, Routing
from strategies.framework.router import choose, gates, score

EPSILON = 1e-8  # Megatron's


class Sinkhorn(TopKStrategy):
    """Training: top-k of d1_j · exp(logit_tj) · d0_t after Sinkhorn's iteration; inference: top-k of the scores.

    The iteration (S-BASE, as in Megatron's `sinkhorn`) gives every token the mass 1/T and every expert the mass 1/E
    over the micro-batch of one process, without gradient. Training is therefore not causal, and inference routes
    otherwise. The plan is balanced, its top-k only roughly so. Gates come from the layer's score function, as for every
    strategy (Megatron: sigmoid for K = 1, else softmax, not normalised).
    """

    name = "sinkhorn"
    title = "Sinkhorn"
    paper = Paper("Clark et al., Unified Scaling Laws for Routed Language Models", 2022, "arXiv:2202.01169")
    published = Published("softmax", False, score_of_one="sigmoid")  # Megatron's
    causal = False
    knob = Knob("temperature", (0.03, 0.1, 0.3, 1.0, 3.0))
    balances = Balances(max_vio=0.5, steps=1)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        temperature: float = 1.0  # divides the logits; lower brings the plan nearer to an assignment; Megatron has none
        tolerance: float = 1e-4  # stop when the mean change of d1 is below it, Megatron's
        max_iterations: int = 100  # Megatron has no such limit; ours, so that a step has one

        def __post_init__(self) -> None:
            for name in ("temperature", "tolerance", "max_iterations"):
                if getattr(self, name) <= 0:
                    raise ValueError(f"{name}: {getattr(self, name)} is impossible; expected more than 0")

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        if not self.training:
            return super().route(hidden_TD, tokens_T, context)
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        config = self.config
        with torch.autocast(hidden_TD.device.type, enabled=False):
            mass_TE = log_plan(logits_TE.detach() / config.temperature, config.tolerance, config.max_iterations)
        experts_TK = choose(mass_TE, self.spec.top_k)
        return Routing.top_k(experts_TK, gates(scores_TE, experts_TK, self.spec), logits_TE, scores_TE)


def log_plan(logits_TE: Tensor, tolerance: float, max_iterations: int) -> Tensor:
    """logit_tj + log d1_j: the plan's logarithm but for a constant per token, which top-k does not see.

    d0_t = 1/T / (Σ_j d1_j c_tj + ε), d1_j = 1/E / (Σ_t d0_t c_tj + ε), until mean |Δd1| < tolerance, c = exp(logits).
    Each token's c is divided by its largest, so that exp cannot overflow; d0 makes up for it but for ε, whose weight
    is then relative to the token's largest c. A token with NaN takes no part. Stopping needs the change on the host:
    one wait per iteration on an accelerator.
    """
    num_tokens, num_experts = logits_TE.shape
    cost_TE = (logits_TE - logits_TE.amax(dim=1, keepdim=True)).exp().nan_to_num(nan=0.0)
    d1_E = torch.ones(num_experts, device=logits_TE.device)
    for _ in range(max_iterations):
        d0_T = 1 / num_tokens / (cost_TE @ d1_E + EPSILON)
        before_E, d1_E = d1_E, 1 / num_experts / (d0_T @ cost_TE + EPSILON)
        if (d1_E - before_E).abs().mean() < tolerance:
            break
    return logits_TE + d1_E.log()
