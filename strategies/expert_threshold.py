"""Expert threshold: a token goes to every expert whose running threshold it passes.

Shapes: T tokens, E experts, K experts per token on average, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strategies.families.threshold import ThresholdStrategy
from strategies.framework.contract import Balances, Knob, LayerSpec, Paper, RouteContext, Routing


class ExpertThreshold(ThresholdStrategy):
    """z_ij = 1[s_ij > c_j], with c_j a moving average of the score that a share K/E of the global batch passes.

    Causal in training and at inference, with any number of experts per token. From summaries of the paper, not its full
    text. `warmup` is the share of training that routes by expert choice first, as the paper's some 4,000 steps do; with
    it the first part of training is not causal. Without it, the very first step routes to the K best.
    """

    name = "expert_threshold"
    title = "Expert threshold"
    paper = Paper(
        "Sun et al., Expert Threshold Routing for Autoregressive Language Modeling with Dynamic Computation Allocation "
        "and Load Balancing",
        2026,
        "arXiv:2603.11535",
    )
    knob = Knob("ema", (0.0, 0.5, 0.9, 0.97, 0.99))
    balances = Balances(max_vio=0.3, steps=20)

    @dataclass(frozen=True, kw_only=True)
    class Config(ThresholdStrategy.Config):
        warmup: float = 0.0  # share of training by expert choice; 0 keeps all of training causal

        def __post_init__(self) -> None:
            super().__post_init__()
            if not 0 <= self.warmup <= 1:
                raise ValueError(f"warmup: {self.warmup} is not a share of training; expected 0 … 1")

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.warming_up: Tensor  # inference ignores it
        self.register_buffer("warming_up", torch.tensor(self.config.warmup > 0))

    def schedule(self, progress: float) -> None:
        self.warming_up.fill_(progress < self.config.warmup)

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        if self.training and self.config.warmup > 0 and self.warming_up:
            return self.by_choice(hidden_TD, capacity_factor=1.0)
        return self.by_threshold(hidden_TD)
