"""Auxiliary-loss-free balancing in proportion to the load error: the sign rule without the sign.

Shapes: E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from strategies.families.biased import BiasStrategy
from strategies.framework.contract import Knob, Paper, Published


class ProportionalBias(BiasStrategy):
    """b_j ← b_j + u · (n̄ − n_j)/n̄ once per optimizer step.

    The paper's ablation uses the raw error n̄ − n_j, whose size depends on the batch; dividing by n̄ is our choice.
    `form` "longcat" is LongCat-Flash's Δb_j = μ (1/E − n_j/(kT)) (arXiv:2509.01322, as transcribed twice; every expert
    here is one of its feed-forward experts, so K_e = K): the same error, divided by E.
    """

    name = "proportional_bias"
    title = "Proportional bias"
    paper = Paper(
        "Wang et al., Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts", 2024, "arXiv:2408.15664"
    )
    published = Published("sigmoid", True)
    knob = Knob("rate", (1e-4, 1e-3, 1e-2, 3e-2, 1e-1))

    @dataclass(frozen=True, kw_only=True)
    class Config(BiasStrategy.Config):
        rate: float = 1e-3  # u: the sign rule's value, which moves alike when an expert gets nothing
        form: Literal["relative", "longcat"] = "relative"

    def step(self, violation_E: Tensor) -> Tensor:
        error_E = violation_E / len(violation_E) if self.config.form == "longcat" else violation_E
        return self.rate * error_E
