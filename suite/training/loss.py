"""Next-token loss straight from the hidden states: the logits of a few hundred tokens at a time, never all of them.

Shapes: T tokens, D width, V vocabulary, C tokens of a chunk.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK_BYTES = {"cpu": 2**20, "cuda": 2**28}  # of logits held at once: about a core's second-level cache; plenty


def chunk_tokens(hidden_TD: Tensor, weight_VD: Tensor) -> int:
    """Tokens whose logits are held at once."""
    limit = CHUNK_BYTES.get(hidden_TD.device.type, 2**24)
    return max(32, limit // (4 * weight_VD.shape[0]))


class _MeanCrossEntropy(torch.autograd.Function):
    """mean_t −log softmax(W h_t)[target_t]. The gradient is made in the forward pass, while the logits are in cache."""

    @staticmethod
    def forward(ctx: Any, hidden_TD: Tensor, weight_VD: Tensor, target_T: Tensor) -> Tensor:
        size = chunk_tokens(hidden_TD, weight_VD)
        scale = 1.0 / len(target_T)
        grad_hidden_TD = torch.empty_like(hidden_TD)
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        total = torch.zeros((), device=hidden_TD.device)
        weight = weight_VD.to(hidden_TD.dtype)
        for hidden_CD, target_C, grad_CD in zip(
            hidden_TD.split(size), target_T.split(size), grad_hidden_TD.split(size), strict=True
        ):
            logits_CV = (hidden_CD @ weight.T).float()
            logits_CV -= logits_CV.amax(dim=1, keepdim=True)
            target_logit_C = logits_CV.gather(1, target_C[:, None])[:, 0]
            sum_C = logits_CV.exp_().sum(1)
            total += (sum_C.log() - target_logit_C).sum()
            delta_CV = logits_CV.mul_((scale / sum_C)[:, None])
            delta_CV.scatter_add_(1, target_C[:, None], delta_CV.new_full((len(target_C), 1), -scale))
            delta_CV = delta_CV.to(hidden_TD.dtype)
            torch.mm(delta_CV, weight, out=grad_CD)
            grad_weight_VD += delta_CV.T @ hidden_CD
        ctx.save_for_backward(grad_hidden_TD, grad_weight_VD)
        return total * scale

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad_hidden_TD, grad_weight_VD = ctx.saved_tensors
        return grad_hidden_TD * grads[0], grad_weight_VD * grads[0], None


def mean_cross_entropy(hidden_TD: Tensor, weight_VD: Tensor, target_T: Tensor) -> Tensor:
    """Mean next-token loss in nats, a scalar with gradient; matrix products in the autocast dtype, sums in float32."""
    device = hidden_TD.device.type
    if torch.is_autocast_enabled(device):
        hidden_TD = hidden_TD.to(torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        return _MeanCrossEntropy.apply(hidden_TD, weight_VD, target_T)


def cross_entropy(hidden_TD: Tensor, weight_VD: Tensor, target_T: Tensor) -> Tensor:
    """Loss of every token in nats, (T,) float32, without gradient."""
    size = chunk_tokens(hidden_TD, weight_VD)
    parts = [
        F.cross_entropy(F.linear(hidden_CD, weight_VD).float(), target_C, reduction="none")
        for hidden_CD, target_C in zip(hidden_TD.split(size), target_T.split(size), strict=True)
    ]
    return torch.cat(parts)
