"""The optimizer and its schedule: the same for every strategy of a comparison."""

from __future__ import annotations

from math import cos, pi

import torch
from torch import nn

from suite.training.model import Transformer
from suite.training.muon import Muon, Together
from tasks import Rung


def learning_rate(rung: Rung, step: int) -> float:
    """Linear warm-up, then cosine down to `min_learning_rate_ratio` of the peak."""
    if step < rung.warmup_steps:
        return rung.learning_rate * (step + 1) / rung.warmup_steps
    progress = (step - rung.warmup_steps) / max(1, rung.steps - rung.warmup_steps)
    low = rung.min_learning_rate_ratio
    return rung.learning_rate * (low + (1 - low) * 0.5 * (1 + cos(pi * progress)))


def fused_parts(name: str) -> tuple[int, int]:
    """How many matrices a parameter of the model holds side by side, and along which dimension."""
    if name.endswith("qkv.weight"):
        return 3, -2
    if name.endswith("w_in.weight"):  # gate and up; nn.Linear keeps (out, in)
        return 2, -2
    return (2, -1) if name.endswith("w_in_EDF") else (1, -1)


def build(model: Transformer, rung: Rung) -> torch.optim.Optimizer | Together:
    """AdamW, or Muon for the matrices between embedding and head with AdamW for the rest.

    Weight decay is decoupled and on matrices only: norms and other vectors are left alone. Routers belong to their
    strategies and stay with AdamW either way, so that crossing balancing with the optimizer changes one thing.
    """
    hidden: dict[tuple[int, int], list[nn.Parameter]] = {}
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if rung.optimizer == "muon" and name.startswith("blocks.") and parameter.ndim >= 2 and ".strategy." not in name:
            hidden.setdefault(fused_parts(name), []).append(parameter)
        else:
            (matrices if parameter.ndim >= 2 else vectors).append(parameter)
    groups = [{"params": matrices, "weight_decay": rung.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=rung.learning_rate, betas=(rung.beta1, rung.beta2), fused=True)
    if rung.optimizer == "adamw":
        return adamw
    stacks = [{"params": held, "parts": parts, "dim": dim} for (parts, dim), held in sorted(hidden.items())]
    return Together([Muon(stacks, lr=rung.learning_rate, weight_decay=rung.weight_decay), adamw])
