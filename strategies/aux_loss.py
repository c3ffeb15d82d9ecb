"""The auxiliary load-balancing loss of Switch and GShard, over a sequence, a micro-batch or the global batch.

Shapes: T tokens of one micro-batch, B sequences, S tokens per sequence, E experts, K per token, A = T·K, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from strategies.families.learned import TopKStrategy
from strategies.framework.contract import Balances, Knob, LayerSpec, Paper, Published, RouteContext, Routing
from strategies.framework.router import count, probabilities
from strategies.framework.terms import sequence_balance


class AuxLoss(TopKStrategy):
    """L = α · E · Σ_j f_j P_j: f_j the share of assignments expert j got, P_j its mean probability.

    f_j = n_j/(kT) as in Megatron, so that the balanced value is α for every k (code without the 1/k has α·k there).
    P_j is the mean of the scores divided by their sum over experts. The gradient runs through P alone.

    Scopes: "micro_batch" and "sequence" (a loss per sequence, averaged) take f and P over the same tokens.
    "global_batch" (Qiu et al. 2025, arXiv:2501.11873) sums f over ranks and over the micro-batches of the optimizer
    step so far, as Megatron's running average does; P stays local.
    """

    name = "aux_loss"
    title = "Aux loss"
    paper = Paper("Fedus et al., Switch Transformers", 2021, "arXiv:2101.03961")
    published = Published("softmax", True)  # Switch and GShard
    knob = Knob("coefficient", (1e-3, 3e-3, 1e-2, 3e-2, 1e-1))
    auxiliary = ("balance",)
    balances = Balances(max_vio=0.3, steps=100)

    @dataclass(frozen=True, kw_only=True)
    class Config:
        coefficient: float = 1e-2  # α: Switch, section 2.2; also where Megatron's documentation starts
        scope: Literal["sequence", "micro_batch", "global_batch"] = "micro_batch"  # Switch: the tokens of one device

        def __post_init__(self) -> None:
            if self.coefficient < 0:
                raise ValueError(f"coefficient: {self.coefficient} is negative; expected 0 or more")

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.seen_E: Tensor  # counts of the optimizer step so far; zero between steps, so it needs no saving
        self.register_buffer("seen_E", torch.zeros(spec.num_experts), persistent=False)

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        routing = super().route(hidden_TD, tokens_T, context)
        if self.training:
            routing.losses["balance"] = self.config.coefficient * self._balance(routing, context)
        return routing

    def _balance(self, routing: Routing, context: RouteContext) -> Tensor:
        assert routing.scores_TE is not None
        probabilities_TE = probabilities(routing.scores_TE)
        if self.config.scope == "sequence":
            return sequence_balance(probabilities_TE, routing.expert_A, context.sequence_length)
        load_E = count(routing.expert_A, self.spec.num_experts)
        if self.config.scope == "global_batch":
            self.seen_E += context.sum_over_ranks(load_E)
            load_E = self.seen_E
        share_E = load_E / load_E.sum()
        return self.spec.num_experts * (share_E * probabilities_TE.mean(dim=0)).sum()

    def rebalance(self, load_E: Tensor, pooled: Mapping[str, Tensor]) -> None:
        self.seen_E.zero_()
