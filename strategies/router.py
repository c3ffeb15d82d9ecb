"""The learned router that most strategies share: a linear map, a score function, top-k and gates.

Shapes: T tokens, E experts, K chosen per token, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from strategies.contract import LayerSpec, Score

TINY = 1e-20  # keeps the gate's division defined (Trinity's released router uses the same value)


def score(logits_TE: Tensor, function: Score) -> Tensor:
    """Scores from logits, float32: sigmoid (DeepSeek-V3, Trinity), softmax (Switch) or √softplus (DeepSeek-V4)."""
    if function == "sigmoid":
        return logits_TE.sigmoid()
    if function == "softmax":
        return logits_TE.softmax(dim=-1)
    return F.softplus(logits_TE).sqrt()


def probabilities(scores_TE: Tensor) -> Tensor:
    """Scores as a distribution over experts, (T, E): s / Σ s (softmax scores are unchanged by it)."""
    return scores_TE / (scores_TE.sum(dim=-1, keepdim=True) + TINY)


def choose(selection_TE: Tensor, k: int) -> Tensor:
    """The k best experts of each token, (T, K) int64. A token's NaN counts as that token's worst choice."""
    return torch.topk(selection_TE.nan_to_num(nan=-torch.inf), k, dim=-1, sorted=True).indices


def gates(scores_TE: Tensor, experts_TK: Tensor, spec: LayerSpec) -> Tensor:
    """Gates of the chosen experts, (T, K): their unbiased scores, normalised if the layer says so and K > 1.

    With one expert per token a normalised gate would be 1 and the task loss would never reach the router.
    """
    chosen_TK = scores_TE.gather(-1, experts_TK)
    if spec.normalize_gates and experts_TK.shape[-1] > 1:
        chosen_TK = chosen_TK / (chosen_TK.sum(dim=-1, keepdim=True) + TINY)
    return chosen_TK * spec.route_scale


class LinearRouter(nn.Module):
    """logits = hidden · weightᵀ in float32, whatever the autocast dtype."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        weight_ED = torch.empty(spec.num_experts, spec.width)
        self.weight_ED = nn.Parameter(weight_ED.normal_(std=spec.router_std, generator=spec.generator("router")))

    def forward(self, hidden_TD: Tensor) -> Tensor:
        with torch.autocast(hidden_TD.device.type, enabled=False):
            return F.linear(hidden_TD.float(), self.weight_ED.float())
