"""BASE layers: in training every expert gets equally many tokens, by an optimal assignment.

Shapes: T tokens, E experts, K experts per token, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strategies.assignment import balanced_assignment
from strategies.framework.contract import Balances, LayerSpec, Paper, Published, RouteContext, Routing, Strategy
from strategies.framework.router import LinearRouter, RouterInit, choose, gates, score


class Base(Strategy):
    """Training: the balanced assignment with the highest total score h · w_e; inference: the best expert (section 3).

    The assignment covers the tokens of one micro-batch of one process and has no gradient; the gate σ(h · w_e) carries
    it. Every token's expert depends on the whole micro-batch, so training is not causal and inference routes otherwise.
    NaN and infinite scores count as the smallest finite one, as in fairseq.

    The paper has one expert per token. For more (our generalisation): K assignments in turn, each leaving out the
    experts a token already has, gates not normalised. σ is the layer's score function: sigmoid is the published rule.
    """

    name = "base"
    title = "BASE"
    paper = Paper("Lewis et al., BASE Layers: Simplifying Training of Large, Sparse Models", 2021, "arXiv:2103.16716")
    published = Published("sigmoid", False)
    causal = False
    balances = Balances(max_vio=0.01, steps=1)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        centroid_init: RouterInit = "orthogonal"  # gain 0.1, fairseq's; "normal" is the other strategies' own

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.router = LinearRouter(spec, self.config.centroid_init)

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        if self.training:
            experts_TK = assign_in_turn(logits_TE.detach(), self.spec.top_k)
        else:
            experts_TK = choose(logits_TE.detach(), self.spec.top_k)
        return Routing.top_k(experts_TK, gates(scores_TE, experts_TK, self.spec, normalize=False), logits_TE, scores_TE)


def assign_in_turn(values_TE: Tensor, k: int) -> Tensor:
    """K distinct experts per token, (T, K) int64, by K balanced assignments in turn.

    Each round gives every expert ⌊T/E⌋ or ⌈T/E⌉ tokens. Where T is not a multiple of E, late rounds may find no such
    assignment among the experts left; the few tokens without one take their best expert left instead.

    Raises:
        ValueError: fewer tokens than experts.
    """
    num_tokens, num_experts = values_TE.shape
    if num_tokens < num_experts:
        raise ValueError(
            f"base: {num_tokens} tokens in a micro-batch cannot be shared among {num_experts} experts; "
            f"expected at least {num_experts}"
        )
    if k == 1:
        return balanced_assignment(values_TE)[:, None]
    values_TE = _finite(values_TE)
    # An exchange of tokens passes each expert at most once, so E + 1 times the range outweighs any gain from breaking
    # the exclusion.
    penalty = (num_experts + 1) * (values_TE.max() - values_TE.min()) + 1
    taken_TE = torch.zeros_like(values_TE, dtype=torch.bool)
    rounds = []
    for _ in range(k):
        left_TE = torch.where(taken_TE, values_TE - penalty, values_TE)
        expert_T1 = balanced_assignment(left_TE)[:, None]
        expert_T1 = torch.where(taken_TE.gather(1, expert_T1), left_TE.argmax(dim=1, keepdim=True), expert_T1)
        taken_TE.scatter_(1, expert_T1, True)
        rounds.append(expert_T1)
    return torch.cat(rounds, dim=1)


def _finite(values_TE: Tensor) -> Tensor:
    """NaN and infinite entries replaced by the smallest finite one (0 if there is none)."""
    finite_TE = values_TE.isfinite()
    smallest = torch.where(finite_TE, values_TE, torch.inf).min()
    return torch.where(finite_TE, values_TE, smallest.nan_to_num(posinf=0.0))
