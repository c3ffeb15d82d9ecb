"""The optimizer and its schedule: the same for every strategy of a comparison."""

from __future__ import annotations

from math import cos, pi

import torch
from torch import nn

from tasks import Rung


def learning_rate(rung: Rung, step: int) -> float:
    """Linear warm-up, then cosine down to `min_learning_rate_ratio` of the peak."""
    if step < rung.warmup_steps:
        return rung.learning_rate * (step + 1) / rung.warmup_steps
    progress = (step - rung.warmup_steps) / max(1, rung.steps - rung.warmup_steps)
    low = rung.min_learning_rate_ratio
    return rung.learning_rate * (low + (1 - low) * 0.5 * (1 + cos(pi * progress)))


def build(model: nn.Module, rung: Rung) -> torch.optim.Optimizer:
    """AdamW with decoupled weight decay on matrices only (norms and other vectors are left alone)."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": rung.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=rung.learning_rate, betas=(rung.beta1, rung.beta2), fused=True)
