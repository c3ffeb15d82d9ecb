"""SimBal: an orthogonal router sends similar tokens to similar experts; the load itself is never looked at.

Shapes: E experts, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from strategies.families.learned import TopKStrategy
from strategies.framework.contract import Knob, Paper, Published, RouteContext, Routing, Waived


class SimBal(TopKStrategy):
    """L = c · ‖RᵀR − I‖₁, the sum of absolute entries, with R the router as a (D, E) matrix: our weight transposed.

    RᵀR (E × E) holds the inner products of the experts' router vectors. With E > D they cannot all be orthogonal and
    the loss has a positive floor. Formula from secondary notes; the coefficient from memory.
    """

    name = "simbal"
    title = "SimBal"
    paper = Paper(
        "Omi et al., Load Balancing Mixture of Experts with Similarity Preserving Routers", 2025, "arXiv:2506.14038"
    )
    published = Published("softmax")
    knob = Knob("coefficient", (1e-3, 1e-2, 3e-2, 1e-1, 1.0))
    auxiliary = ("orthogonality",)
    balances = Waived("spreads the router's vectors, not the load")

    @dataclass(frozen=True, kw_only=True)
    class Config:
        coefficient: float = 1e-1  # c (from memory, not re-checked)

        def __post_init__(self) -> None:
            if self.coefficient < 0:
                raise ValueError(f"coefficient: {self.coefficient} is negative; expected 0 or more")

    def route(self, hidden_TD: Tensor, tokens_T: Tensor, context: RouteContext) -> Routing:
        routing = super().route(hidden_TD, tokens_T, context)
        if self.training:
            routing.losses["orthogonality"] = self.config.coefficient * self._distance()
        return routing

    def _distance(self) -> Tensor:
        weight_ED = self.router.weight_ED
        with torch.autocast(weight_ED.device.type, enabled=False):
            gram_EE = weight_ED.float() @ weight_ED.float().T
        return (gram_EE - torch.eye(len(gram_EE), device=gram_EE.device)).abs().sum()
