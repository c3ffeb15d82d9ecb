"""The learned router that most strategies share: a linear map, a score function, top-k and gates.

Shapes: T tokens, E experts, K chosen per token, A assignments, D width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from strategies.framework.interface import LayerSpec, Score

TINY = 1e-20  # keeps the gate's division defined (Trinity's released router uses the same value)

RouterInit = Literal["normal", "orthogonal"]


def score(logits_TE: Tensor, function: Score) -> Tensor:
    """Scores from logits, float32: sigmoid (DeepSeek-V3, Trinity), softmax (Switch) or √softplus (DeepSeek-V4)."""
    if function == "sigmoid":
        return logits_TE.sigmoid()
    if function == "softmax":
        return logits_TE.softmax(dim=-1)
    return nn.functional.softplus(logits_TE).sqrt()


def probabilities(scores_TE: Tensor) -> Tensor:
    """Scores as a distribution over experts, (T, E): s / Σ s (softmax scores are unchanged by it)."""
    return scores_TE / (scores_TE.sum(dim=-1, keepdim=True) + TINY)


def choose(selection_TE: Tensor, k: int) -> Tensor:
    """The k best experts of each token, (T, K) int64. A token's NaN counts as that token's worst choice."""
    return torch.topk(selection_TE.nan_to_num(nan=-torch.inf), k, dim=-1, sorted=True).indices


def gates(scores_TE: Tensor, experts_TK: Tensor, spec: LayerSpec, normalize: bool | None = None) -> Tensor:
    """Gates of the chosen experts, (T, K): their unbiased scores, normalised if the layer says so and K > 1.

    With one expert per token a normalised gate would be 1 and the task loss would never reach the router.

    Args:
        normalize: for rules whose paper settles it; None asks the layer.
    """
    chosen_TK = scores_TE.gather(-1, experts_TK)
    if (spec.normalize_gates if normalize is None else normalize) and experts_TK.shape[-1] > 1:
        chosen_TK = chosen_TK / (chosen_TK.sum(dim=-1, keepdim=True) + TINY)
    return chosen_TK * spec.route_scale


def count(expert_A: Tensor, num_experts: int) -> Tensor:
    """Assignments per expert, (E,) float32. Sums of ones are exact, so the order in which they are added is free."""
    if expert_A.device.type == "cpu":
        return torch.bincount(expert_A, minlength=num_experts).float()  # faster, but an accelerator would have to wait
    load_E = torch.zeros(num_experts, device=expert_A.device)
    return load_E.index_add_(0, expert_A, torch.ones_like(expert_A, dtype=torch.float32))


class LinearRouter(nn.Module):
    """logits = hidden · weightᵀ in float32, whatever the autocast dtype."""

    def __init__(self, spec: LayerSpec, init: RouterInit = "normal") -> None:
        """`init`: "normal" has the layer's `router_std`, "orthogonal" gain 0.1, as in BASE's and StableMoE's code."""
        super().__init__()
        weight_ED = torch.empty(spec.num_experts, spec.width)
        generator = spec.generator("router")
        if init == "normal":
            weight_ED.normal_(std=spec.router_std, generator=generator)
        else:
            nn.init.orthogonal_(weight_ED, gain=0.1, generator=generator)
        self.weight_ED = nn.Parameter(weight_ED)

    def forward(self, hidden_TD: Tensor) -> Tensor:
        with torch.autocast(hidden_TD.device.type, enabled=False):
            return nn.functional.linear(hidden_TD.float(), self.weight_ED.float())
