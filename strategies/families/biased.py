"""The family of bias rules: a bias on the scores decides who is chosen, and moves against the load.

A rule of one's own is a subclass of `BiasStrategy` with one method, `step`, that says by how much the bias moves.

Shapes: T tokens, E experts, K experts per token, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from strategies.framework.contract import Balances, LayerSpec, RouteContext, Routing, Strategy, Waived
from strategies.framework.router import LinearRouter, choose, gates, score


class BiasedSelection(Strategy):
    """Selection by `scores + bias_E`, gates from the unbiased scores. How the bias moves is the subclass's business."""

    selection_only_bias = True
    balances: ClassVar[Balances | Waived] = Balances(max_vio=0.5, steps=500)

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.router = LinearRouter(spec)
        self.bias_E: Tensor
        self.register_buffer("bias_E", torch.zeros(spec.num_experts))

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        logits_TE = self.router(hidden_TD)
        scores_TE = score(logits_TE, self.spec.score)
        experts_TK = choose(self.select(scores_TE.detach()), self.spec.top_k)
        return Routing.top_k(experts_TK, gates(scores_TE, experts_TK, self.spec), logits_TE, scores_TE)

    def select(self, scores_TE: Tensor) -> Tensor:
        """What the k best are chosen by, (T, E)."""
        return scores_TE + self.bias_E


class BiasStrategy(BiasedSelection):
    """A biased selection whose bias takes one step against the load per optimizer step."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Common parameters of bias rules."""

        rate: float = 1e-3  # how far the bias may move in one step, in units of the score
        center: bool = False  # subtract the mean of the update (changes no routing; keeps the bias near zero)
        decay_from: float = 1.0  # progress at which the rate starts to fall linearly to zero (1: it never does)

        def __post_init__(self) -> None:
            if self.rate < 0:
                raise ValueError(f"rate: {self.rate} is negative; expected a step size of 0 or more")
            if not 0 <= self.decay_from <= 1:
                raise ValueError(f"decay_from: {self.decay_from} is not a share of training; expected 0 … 1")

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.rate: Tensor
        self.register_buffer("rate", torch.tensor(float(self.config.rate)))

    def schedule(self, progress: float) -> None:
        start = self.config.decay_from
        left = 1.0 if progress < start or start == 1 else (1 - progress) / (1 - start)
        self.rate.fill_(self.config.rate * left)

    def rebalance(self, load_E: Tensor, pooled: Mapping[str, Tensor]) -> None:
        mean = load_E.mean()
        step_E = self.step((mean - load_E) / mean.clamp_min(1e-20))  # no load, no violation
        self.bias_E += step_E - step_E.mean() if self.config.center else step_E

    @abstractmethod
    def step(self, violation_E: Tensor) -> Tensor:
        """How far each bias moves, (E,).

        Args:
            violation_E: (n̄ − n_j)/n̄ of the global batch: positive where an expert got too little.
        """
        raise NotImplementedError(f"{type(self).__name__} must define step(violation_E)")
