"""Auxiliary-loss-free balancing by the sign of the load error (DeepSeek-V3's rule).

Shapes: T tokens, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from strategies.families.biased import BiasStrategy
from strategies.framework.contract import Knob, Paper, Published


class SignBias(BiasStrategy):
    """b_j ← b_j + u · sign(n̄ − n_j) once per optimizer step (Algorithm 1); b = 0 at first, not centred.

    `center` subtracts the mean of the update, as torchtitan and Moonlight do; it changes no routing. `form`
    "multiplicative" is the paper's variant that scales scores instead of shifting them, s_j · b_j with b = 1 at first
    (from memory, not re-checked against the text); `bias_E` then holds b − 1.
    """

    name = "sign_bias"
    title = "Sign bias"
    paper = Paper(
        "Wang et al., Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts", 2024, "arXiv:2408.15664"
    )
    published = Published("sigmoid", True)  # DeepSeek-V3's
    knob = Knob("rate", (1e-4, 1e-3, 3e-3, 1e-2, 3e-2))

    @dataclass(frozen=True, kw_only=True)
    class Config(BiasStrategy.Config):
        rate: float = 1e-3  # u: the paper's best of three; DeepSeek-V3's γ
        form: Literal["additive", "multiplicative"] = "additive"  # Algorithm 1

    def select(self, scores_TE: Tensor) -> Tensor:
        if self.config.form == "multiplicative":
            return scores_TE * (1 + self.bias_E)
        return super().select(scores_TE)

    def step(self, violation_E: Tensor) -> Tensor:
        return self.rate * violation_E.sign()
