"""Growing sparsity: training begins with more experts per token than the layer has, and comes down to its number.

Shapes: T tokens, E experts, K experts per token, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from strategies.aux_loss import AuxLoss
from strategies.framework.contract import LayerSpec, RouteContext, Routing
from strategies.framework.router import choose, gates, score

ROUNDING = 1e-9  # a stage ends at the step it is computed to end at, whichever way the quotient was rounded


class GrowingSparsity(AuxLoss):
    """Auxiliary-loss balancing with K(p) = k + ⌈(k₀ − k)(1 − p/until)⌉ experts per token at progress p < until, then k.

    k is the layer's K and k₀ = min(E, ⌊start · k⌋): every K from k₀ down to k + 1 has an equal part of the first
    `until` of training. It spends (k₀ − k + 1)/2 · until more experts per token and step, on average, than the other
    rules: at equal tokens it is not a comparison at equal FLOPs, hence `variable_k`. A decoder uses k throughout. In a
    layer with k = 1 gates are never normalised, so a chosen expert's gate doesn't change when K falls to 1.

    Common advice without a definition of its own; EvoMoE's dense-to-sparse gate (Nie et al. 2021, arXiv:2112.14397) is
    the nearest published rule: there a threshold on the gate does the sparsifying.
    """

    name = "growing_sparsity"
    title = "Growing sparsity, more FLOPs"
    paper = None  # type: ignore[assignment]  # the parent's is of its loss, not of this rule
    variable_k = True

    @dataclass(frozen=True, kw_only=True)
    class Config(AuxLoss.Config):
        start: float = 2.0  # k₀/k; ours: the least that is a stage of its own for every k
        until: float = 0.25  # share of training until K is the layer's; ours: most of training is at the final sparsity

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.start < 1:
                raise ValueError(f"start: {self.start} is no multiple of top_k to come down from; expected 1 or more")
            if not 0 <= self.until <= 1:
                raise ValueError(f"until: {self.until} is not a share of training; expected 0 … 1")

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.k = 0  # `active` as seen by the host, so that `route` never waits for the device
        self.active: Tensor  # experts per token in training
        self.register_buffer("active", torch.tensor(0))
        self.register_load_state_dict_post_hook(_follow_active)
        self.schedule(0.0)

    def schedule(self, progress: float) -> None:
        k = self.spec.top_k
        if progress < self.config.until:
            more = min(self.spec.num_experts, math.floor(self.config.start * k + ROUNDING)) - k
            k += math.ceil(more * (1 - progress / self.config.until) - ROUNDING)
        if k != self.k:
            self.k = k
            self.active.fill_(k)

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        experts_TK = choose(scores_TE.detach(), self.k if self.training else self.spec.top_k)
        normalize = self.spec.normalize_gates and self.spec.top_k > 1
        gates_TK = gates(scores_TE, experts_TK, self.spec, normalize)
        routing = Routing.top_k(experts_TK, gates_TK, logits_TE, scores_TE)
        if self.training:
            routing.losses["balance"] = self.config.coefficient * self._balance(routing, context)
        return routing


def _follow_active(strategy: nn.Module, incompatible_keys: Any) -> None:
    """After a state is loaded, the host's view follows the buffer."""
    assert isinstance(strategy, GrowingSparsity)
    strategy.k = int(strategy.active)
