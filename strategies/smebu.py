"""SMEBU: soft-clamped momentum expert bias updates, Trinity Large's balancing rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from strategies.families.biased import BiasStrategy
from strategies.framework.contract import Knob, LayerSpec, Paper, Published


class Smebu(BiasStrategy):
    """m ← β m + (1 − β) Δ, b ← b + m, with Δ = λ tanh(κ v) centred over experts and v = (n̄ − n)/n̄."""

    name = "smebu"
    title = "SMEBU"
    paper = Paper("Arcee AI, Trinity Large technical report", 2026, "arXiv:2602.17004")
    published = Published("sigmoid", True)
    knob = Knob("rate", (5e-4, 2e-3, 5e-3, 1e-2, 2e-2))

    @dataclass(frozen=True, kw_only=True)
    class Config(BiasStrategy.Config):
        """Defaults as transcribed, three times independently, from the report; rate also from its released code."""

        rate: float = 5e-4  # λ
        kappa: float = 2.0  # κ, slope of the soft clamp
        momentum: float = 0.5  # β (0.9 in the press; 0.5 in the report)
        center: bool = True  # the update is centred, not the bias; centring m is the same, the average being linear

    def __init__(self, spec: LayerSpec, config: Any = None, terms: Mapping[str, float] | None = None) -> None:
        super().__init__(spec, config, terms)
        self.momentum_E: Tensor
        self.register_buffer("momentum_E", torch.zeros(spec.num_experts))

    def step(self, violation_E: Tensor) -> Tensor:
        delta_E = self.rate * torch.tanh(self.config.kappa * violation_E)
        self.momentum_E.lerp_(delta_E, 1 - self.config.momentum)
        return self.momentum_E
